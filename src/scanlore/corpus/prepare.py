"""From one source to index rows and compressed levels: what a build worker does."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from scanlore.corpus.levels import build_levels, level_affine, level_factors
from scanlore.corpus.quantise import quantise
from scanlore.corpus.settings import Curation
from scanlore.corpus.store import encode
from scanlore.errors import DataError
from scanlore.scans.failures import counted, reason_of
from scanlore.scans.find import Source
from scanlore.scans.intensity import IntensityStats, intensity_stats
from scanlore.scans.read import read_scan
from scanlore.scans.scan import Scan

Row = dict[str, Any]


@dataclass(frozen=True)
class Prepared:
    """Everything the writer needs of one source.

    Attributes:
        rows: One index row per channel, or a single one that says why there is none.
        frames: The compressed levels of each row; empty where the row is not kept.
    """

    rows: list[Row]
    frames: list[list[bytes]]


def source_name(source: Source) -> str:
    """Return what the index calls a source: its absolute path, with the number of a further series of a folder."""
    return f"{source.path.resolve()}{source.name.removeprefix(source.path.as_posix())}"


def source_row(source: Source) -> Row:
    """Return the columns that identify a source: where it is, and size and time of its files, 0 once they are gone."""
    try:
        size, mtime = source.size_and_mtime()
    except OSError:
        size, mtime = 0, 0
    return {"source": source_name(source), "format": source.kind, "bytes": size, "mtime_ns": mtime}


def prepare(source: Source, curation: Curation, salt: bytes) -> Prepared:
    """Read, curate and compress one source; a scan that cannot be read becomes a row with the reason.

    Args:
        source: A file or series.
        curation: Which scans are kept.
        salt: Of this corpus, for the patient hash.
    """
    identity = source_row(source)
    try:
        scan = read_scan(source, salt=salt)
    except (DataError, MemoryError, OSError) as error:
        reason = reason_of(error) if isinstance(error, DataError) else str(error) or "not enough memory to read it"
        return Prepared([identity | {"status": "failed", "reason": reason}], [[]])
    prepared = [_prepare_channel(scan, channel, curation) for channel in range(scan.num_channels)]
    return Prepared([identity | row for row, _ in prepared], [frames for _, frames in prepared])


def _prepare_channel(scan: Scan, channel: int, curation: Curation) -> tuple[Row, list[bytes]]:
    voxels = scan.voxels[channel]
    stats = intensity_stats(voxels)
    row: Row = {
        "id": content_id(voxels),
        "channel": channel,
        "num_channels": scan.num_channels,
        "ndim": scan.ndim,
        "scan_shape": list(scan.shape),
        "through_axis": scan.through_axis,
        "spacing": list(scan.spacing) if scan.spacing else None,
        "patient": scan.metadata.patient,
        "modality": scan.metadata.modality,
        "problems": "; ".join(scan.problems) or None,
        "highres": scan.ndim == 3 and min(scan.shape) > curation.highres_above,
        **asdict(stats),
    }
    reason = drop_reason(scan, stats, curation)
    if reason:
        return row | {"status": "dropped", "reason": reason}, []
    box = foreground_box(voxels, stats.p0_05)
    values, slope, intercept = quantise(voxels[box], stats)
    factors = level_factors(values.shape, scan.through_axis)
    stored = {
        "status": "kept",
        "box_start": [int(part.start) for part in box],
        "shape": list(values.shape),
        "slope": slope,
        "intercept": intercept,
        "level_factors": [factor for level in factors for factor in level],
        "level_affines": _affines(scan, box, factors),
    }
    return row | stored, [encode(level) for level in build_levels(values, factors)]


def _affines(scan: Scan, box: tuple[slice, ...], factors: list[tuple[int, ...]]) -> list[float] | None:
    if scan.affine is None or scan.ndim != 3:
        return None
    cropped = scan.affine.astype(np.float64).copy()
    cropped[:3, 3] += cropped[:3, :3] @ np.array([part.start for part in box])
    return [float(value) for level in factors for value in level_affine(cropped, level).ravel()]


def content_id(voxels: npt.NDArray[np.generic]) -> str:
    """Return a 128-bit hash of shape and values, the same whatever the file format and integer width."""
    digest = hashlib.blake2b(repr(voxels.shape).encode(), digest_size=16)
    for slab in voxels:
        digest.update(np.ascontiguousarray(slab, dtype=np.float32).tobytes())
    return digest.hexdigest()


def drop_reason(scan: Scan, stats: IntensityStats, curation: Curation) -> str | None:
    """Return the curation rule that drops this channel, with its value; `None` when it is kept."""
    if scan.ndim == 3 and min(scan.shape) <= curation.slices_above:
        return f"{counted(min(scan.shape), 'slice')} (slices_above: {curation.slices_above})"
    if curation.drop_constant and not stats.p99_95 > stats.p0_05:
        return "empty or constant (drop_constant)"
    return None


def foreground_box(voxels: npt.NDArray[np.generic], threshold: float) -> tuple[slice, ...]:
    """Return the bounding box of the voxels above `threshold`, the whole where there are none.

    3DINO crops to the voxels that percentile scaling leaves above -1: those above the 0.05 percentile.
    """
    mask = np.greater(voxels, threshold)
    box = []
    for axis in range(voxels.ndim):
        others = tuple(other for other in range(voxels.ndim) if other != axis)
        hits = np.flatnonzero(mask.any(axis=others))
        box.append(slice(int(hits[0]), int(hits[-1]) + 1) if hits.size else slice(0, voxels.shape[axis]))
    return tuple(box)
