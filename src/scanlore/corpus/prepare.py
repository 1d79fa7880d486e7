"""From one source to index rows and compressed levels: what a build worker does.

Rules are applied later, to the finished table: every scan that can be read is stored, so that other rules read
nothing again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from scanlore.corpus.fingerprint import fingerprint
from scanlore.corpus.label_maps import is_label_map, named_label
from scanlore.corpus.levels import build_label_levels, build_levels, level_factors
from scanlore.corpus.quantise import INT16, as_labels, quantise
from scanlore.corpus.store import checksum, encode
from scanlore.errors import DataError
from scanlore.scans.dicom_group import Series, recall, remember
from scanlore.scans.failures import reason_of
from scanlore.scans.geometry import AssumedSpacing
from scanlore.scans.header import Header
from scanlore.scans.intensity import IntensityStats, intensity_stats
from scanlore.scans.metadata import Metadata, hashed, stem
from scanlore.scans.read import read_header, read_scan
from scanlore.scans.scan import Scan
from scanlore.scans.source import Source

Row = dict[str, Any]
PLANES = ("sagittal", "coronal", "axial")


@dataclass(frozen=True)
class Origin:
    """What is known of a source without opening it.

    Attributes:
        salt: Secret of the project.
        dataset: Name of the dataset.
        licence: Of the dataset.
        assume_spacing: As `read_scan` takes it.
    """

    salt: bytes
    dataset: str | None = None
    licence: str | None = None
    assume_spacing: AssumedSpacing | None = None


@dataclass(frozen=True)
class Given:
    """A source on its way into a corpus.

    Attributes:
        source: The files.
        origin: What is known of it.
        row: The columns of the index that identify it, from `source_row`.
        headers: What was read of a DICOM series when it was found, for the process that reads on.
    """

    source: Source
    origin: Origin
    row: Row
    headers: Series | None = None

    @property
    def key(self) -> str:
        """What the index calls the source: a salted hash of its absolute path."""
        return str(self.row["source"])


@dataclass(frozen=True)
class Prepared:
    """Everything the writer needs of one source.

    Attributes:
        rows: One index row per channel, or a single one that says why there is none.
        frames: The compressed levels of each row; empty where nothing is stored.
    """

    rows: list[Row]
    frames: list[list[bytes]]


def source_name(source: Source) -> str:
    """Return the absolute path of a source, with the number of a further series or page; never stored as it is."""
    return f"{source.path.resolve()}{source.name.removeprefix(source.path.as_posix())}"


def source_row(source: Source, origin: Origin) -> Row:
    """Return the columns that identify a source: salted hashes of its names, and size and time of its files."""
    try:
        size, mtime = source.size_and_mtime()
    except OSError:
        size, mtime = 0, 0  # gone; found again later, it is read again
    root = source.path if source.root is None else source.root
    inside = source.name.removeprefix(root.as_posix()).strip("/")
    name = stem(source.path.name) if len(source.files) == 1 else source.path.name
    return {
        "source": hashed(origin.salt, source_name(source)),
        "root": hashed(origin.salt, root.resolve()),
        "file": hashed(origin.salt, name),
        "relative": hashed(origin.salt, inside or source.path.name),
        "format": source.kind,
        "num_files": 0 if source.kind == "image2d" and source.number > 1 else len(source.files),
        "bytes": size,
        "modified": hashed(origin.salt, mtime),  # the time itself can be that of the study
        "dataset": origin.dataset,
        "licence": origin.licence,
    }


def given(source: Source, origin: Origin) -> Given:
    """Look at the files of a source, without opening them."""
    row = source_row(source, origin)
    is_series = source.kind == "dicom" and source.archive is None and row["bytes"] > 0
    return Given(source, origin, row, recall(source.files) if is_series else None)


def prepare(one: Given) -> Prepared:
    """Read and compress one source; a scan that cannot be read becomes a row with the reason."""
    try:
        if one.headers is not None:
            remember(one.source.files, one.headers)
        scan = read_scan(one.source, salt=one.origin.salt, assume_spacing=one.origin.assume_spacing)
        is_named = named_label(one.source.path)
        prepared = [_prepare_channel(scan, channel, is_named) for channel in range(scan.num_channels)]
    except (DataError, MemoryError, OSError) as error:
        return failed(one, _why(error))
    return Prepared([one.row | row for row, _ in prepared], [frames for _, frames in prepared])


def failed(one: Given, reason: str) -> Prepared:
    """Return the row of a source that cannot be read."""
    return Prepared([one.row | {"status": "failed", "rule": reason.partition(": ")[0], "reason": reason}], [[]])


def header_rows(one: Given) -> list[Row]:
    """Return the rows of a source as far as its headers tell: what rules about voxels need is missing."""
    try:
        header = read_header(one.source, salt=one.origin.salt, assume_spacing=one.origin.assume_spacing)
    except (DataError, OSError) as error:
        return failed(one, _why(error)).rows
    shared = one.row | {
        "num_channels": header.num_channels,
        "ndim": len(header.shape),
        "scan_shape": list(header.shape),
        "spacing": list(header.spacing) if header.spacing else None,
        **_metadata(header),
    }
    return [shared | {"channel": channel} for channel in range(header.num_channels)]


def _why(error: Exception) -> str:
    if isinstance(error, DataError):
        return reason_of(error)
    return "cannot be opened" if isinstance(error, OSError) else "too large: not enough memory to read it"


def _metadata(scan: Scan | Header) -> Row:
    known: Metadata = scan.metadata
    return {**asdict(known), "problems": "; ".join(scan.problems) or None}


def _prepare_channel(scan: Scan, channel: int, is_named: bool) -> tuple[Row, list[bytes]]:
    voxels = scan.voxels[channel]
    stats = intensity_stats(voxels)
    is_label = is_label_map(voxels, is_named)
    row: Row = {
        "role": "label" if is_label else "image",
        "id": content_id(voxels, stats),
        "fingerprint": None if is_label else fingerprint(voxels),
        "channel": channel,
        "num_channels": scan.num_channels,
        "ndim": scan.ndim,
        "scan_shape": list(scan.shape),
        "spacing": list(scan.spacing) if scan.spacing else None,
        "affine": None if scan.affine is None else [float(value) for value in scan.affine.ravel()],
        "through_axis": scan.through_axis,
        "plane": None if scan.through_axis is None else PLANES[scan.through_axis],
        **_metadata(scan),
        **asdict(stats),
    }
    stored, frames = _store(voxels, stats, scan.through_axis, is_label)
    return row | stored, frames


def _store(
    voxels: npt.NDArray[Any], stats: IntensityStats, through_axis: int | None, is_label: bool
) -> tuple[Row, list[bytes]]:
    box = foreground_box(voxels, 0 if is_label else stats.p0_05)
    factors = level_factors(tuple(part.stop - part.start for part in box), through_axis)
    slope, intercept = 1.0, 0.0
    values: npt.NDArray[Any]
    levels: Iterable[npt.NDArray[Any]]
    if is_label:
        values = labels = as_labels(voxels[box])
        levels = build_label_levels(labels, factors)
    else:
        values, slope, intercept = quantise(voxels[box], stats)
        levels = build_levels(values, factors)
    frames = [encode(level) for level in levels]
    return {
        "box_start": [int(part.start) for part in box],
        "shape": [int(part.stop - part.start) for part in box],
        "dtype": values.dtype.name,
        "slope": slope,
        "intercept": intercept,
        "level_factors": [factor for level in factors for factor in level],
        "checksum": checksum(frames),
    }, frames


def content_id(voxels: npt.NDArray[Any], stats: IntensityStats | None = None) -> str:
    """Return a 128-bit hash of shape and values, the same whatever the file format, axis order and width of numbers.

    Args:
        voxels: One channel on its RAS+ grid.
        stats: Its statistics, if they are known already.
    """
    low, high = (voxels.min(initial=0), voxels.max(initial=0)) if stats is None else (stats.minimum, stats.maximum)
    fits = INT16.min <= low and high <= INT16.max
    # The last axis runs slowest in most files: slabs across it are read in the order they lie in memory
    slabs = [voxels[..., index].T for index in range(voxels.shape[-1])] if voxels.ndim == 3 else [voxels]
    is_short = fits and (voxels.dtype.kind in "iub" or all(bool((np.rint(slab) == slab).all()) for slab in slabs))
    digest = xxhash.xxh3_128(repr(voxels.shape).encode())
    for slab in slabs:
        digest.update(np.ascontiguousarray(slab, dtype=np.int16 if is_short else np.float32).data)
    return digest.hexdigest()


def foreground_box(voxels: npt.NDArray[np.generic], threshold: float) -> tuple[slice, ...]:
    """Return the bounding box of the voxels above `threshold`, the whole where there are none.

    3DINO crops to the voxels that percentile scaling leaves above -1: those above the 0.05 percentile.
    """
    box: list[slice] = [slice(0, edge) for edge in voxels.shape]
    # The axis whose slabs lie together in memory first; only the margins are ever read
    for axis in sorted(range(voxels.ndim), key=lambda axis: -abs(voxels.strides[axis])):
        ends = range(voxels.shape[axis])
        first = next((place for place in ends if _is_above(voxels, box, axis, place, threshold)), None)
        if first is None:
            return tuple(slice(0, edge) for edge in voxels.shape)
        last = next(place for place in reversed(ends) if _is_above(voxels, box, axis, place, threshold))
        box[axis] = slice(first, last + 1)
    return tuple(box)


def _is_above(voxels: npt.NDArray[Any], box: list[slice], axis: int, place: int, threshold: float) -> bool:
    """Whether any voxel of a slab within the box lies above a threshold."""
    where: tuple[slice | int, ...] = (*box[:axis], place, *box[axis + 1 :])
    slab = voxels[where]
    return bool((slab > threshold).any())
