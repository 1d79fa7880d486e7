"""Writing stored scans as files that other programs read: NIfTI, for 2D images PNG or TIFF, and a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image

from scanlore.corpus.index import Corpus
from scanlore.corpus.store import MEND, Pyramid, shard_path
from scanlore.corpus.verify import damaged
from scanlore.errors import ConfigError, DataError
from scanlore.run import check_place, make_folder, write_atomically
from scanlore.scans.nifti import write_nifti
from scanlore.scans.scan import Geometry, Scan

if TYPE_CHECKING:
    import polars as pl

Voxels = npt.NDArray[Any]
TABLE = "scans.tsv"
COLUMNS = (
    "role", "id", "channel", "num_channels", "ndim", "spacing", "scan_shape", "through_axis",
    "plane", "problems", "modality", "sequence", "body_part", "contrast", "vendor", "field_strength", "sex", "age_band",
    "site", "patient", "study", "series", "dataset", "licence", "split", "minimum", "maximum", "mean", "std",
)  # fmt: skip
"""Columns of the index that the table repeats: none says where a scan came from."""


@dataclass(frozen=True)
class ExportResult:
    """What was written.

    Attributes:
        out: The folder.
        num_files: Scans written.
    """

    out: Path
    num_files: int


def export(corpus: Corpus, out: Path, rows: pl.DataFrame) -> ExportResult:
    """Write level 0 of stored scans, named by their content id, and `scans.tsv` with their metadata.

    A volume becomes a `.nii.gz` on the grid of the scan, in RAS+ order; an image a `.png` where its values are whole
    numbers that fit, else a `.tif`. Whole numbers are those of the scan, others as near as 16 bits come; what
    lies outside the foreground box, which the store does not keep, is the scan's smallest value.

    Args:
        corpus: A finished corpus.
        out: A new or empty folder.
        rows: Rows of its index that are stored.

    Raises:
        ConfigError: `out` is not empty, or cannot be made.
        DataError: The store is damaged.
    """
    check_place(out)
    if out.exists() and any(out.iterdir()):
        raise ConfigError("is not empty", where=out, fix="choose another --out")
    if bad := damaged(corpus.root, rows):
        raise DataError(f"{len(bad)} of {rows.height} scans are damaged in the store", where=corpus.root, fix=MEND)
    make_folder(out)
    used: Counter[str] = Counter()
    lines = ["\t".join(("file", *COLUMNS))]
    for row in rows.iter_rows(named=True):
        used[row["id"]] += 1
        name = row["id"] if used[row["id"]] == 1 else f"{row['id']}-{used[row['id']]}"
        file = _write(out, name, _restored(corpus.root, row), row)
        lines.append("\t".join((file, *(_text(row[column]) for column in COLUMNS))))
    write_atomically(out / TABLE, "\n".join(lines) + "\n")
    return ExportResult(out, rows.height)


def _restored(root: Path, row: dict[str, Any]) -> Voxels:
    """Read level 0 with the intensities of the scan: as whole numbers where they are, else as float32."""
    place = (str(shard_path(root, row["shard"])), row["level_offsets"][0])
    whole = (slice(None),) * row["ndim"]
    stored: Voxels = Pyramid(((1,) * row["ndim"],), (place,), 1.0, 0.0).read(0, whole)
    return _uncropped(_with_intensities(stored, row["slope"], row["intercept"]), row)


def _with_intensities(stored: Voxels, slope: float, intercept: float) -> Voxels:
    if (slope, intercept) == (1, 0) and stored.dtype.kind in "iu":
        return stored
    if slope == 1 and float(intercept).is_integer() and stored.dtype.kind in "iu":
        return stored.astype(np.int32) + np.int32(intercept)
    return stored.astype(np.float32) * np.float32(slope) + np.float32(intercept)


def _uncropped(voxels: Voxels, row: dict[str, Any]) -> Voxels:
    """Return the grid of the whole scan, so that an image and its mask still fit each other."""
    if list(voxels.shape) == row["scan_shape"]:
        return voxels
    outside = 0 if row["role"] == "label" else row["minimum"]
    whole: Voxels = np.full(row["scan_shape"], outside, voxels.dtype)
    whole[tuple(slice(first, first + edge) for first, edge in zip(row["box_start"], voxels.shape, strict=True))] = (
        voxels
    )
    return whole


def _write(out: Path, name: str, voxels: Voxels, row: dict[str, Any]) -> str:
    if row["ndim"] == 3:
        scan = _scan(voxels, row)
        return _whole(out, f"{name}.nii.gz", lambda path: write_nifti(path, voxels, scan))
    for dtype in (np.uint8, np.uint16):
        if voxels.dtype.kind in "iu" and voxels.min() >= 0 and voxels.max() <= np.iinfo(dtype).max:
            return _whole(out, f"{name}.png", Image.fromarray(voxels.astype(dtype)).save)
    return _whole(out, f"{name}.tif", lambda path: tifffile.imwrite(path, voxels))


def _whole(out: Path, name: str, write: Callable[[Path], object]) -> str:
    """Write a file under another name first, so that it is whole wherever it is."""
    partial = out / f".partial-{name}"
    try:
        write(partial)
        partial.replace(out / name)
    finally:
        partial.unlink(missing_ok=True)
    return name


def _scan(voxels: Voxels, row: dict[str, Any]) -> Scan:
    affine = np.reshape(row["affine"], (4, 4))
    geometry = Geometry(voxels.shape, affine, ((0, 1), (1, 1), (2, 1)))
    return Scan(voxels[None], affine, tuple(row["spacing"]), row["through_axis"], geometry)


def _text(value: object) -> str:
    if isinstance(value, list):
        return " ".join(map(_text, value))
    if isinstance(value, float):
        return f"{value:.7g}"
    return "" if value is None else str(value)
