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
from scanlore.corpus.store import Pyramid, shard_path
from scanlore.errors import ConfigError
from scanlore.run import check_place, make_folder, write_atomically
from scanlore.scans.nifti import write_nifti
from scanlore.scans.scan import Geometry, Scan

if TYPE_CHECKING:
    import polars as pl

Voxels = npt.NDArray[Any]
TABLE = "scans.tsv"
COLUMNS = (
    "role", "id", "channel", "num_channels", "ndim", "shape", "spacing", "scan_shape", "box_start", "through_axis",
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

    A volume becomes a `.nii.gz` of its foreground box with the affine of that box; an image a `.png` where its values
    are whole numbers that fit, else a `.tif`. Intensities are those of the scan as far as the store keeps them.

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
    slope, intercept = row["slope"], row["intercept"]
    if (slope, intercept) == (1, 0) and stored.dtype.kind in "iu":
        return stored
    if slope == 1 and float(intercept).is_integer() and stored.dtype.kind in "iu":
        return stored.astype(np.int32) + np.int32(intercept)
    return stored.astype(np.float32) * np.float32(slope) + np.float32(intercept)


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
    affine[:3, 3] += affine[:3, :3] @ np.array(row["box_start"])
    geometry = Geometry(voxels.shape, affine, ((0, 1), (1, 1), (2, 1)))
    return Scan(voxels[None], affine, tuple(row["spacing"]), row["through_axis"], geometry)


def _text(value: object) -> str:
    if isinstance(value, list):
        return " ".join(map(_text, value))
    if isinstance(value, float):
        return f"{value:.7g}"
    return "" if value is None else str(value)
