"""Several co-registered files as the channels of one scan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np

from scanlore.errors import DataError
from scanlore.scans.find import Source
from scanlore.scans.read import read_header, read_scan
from scanlore.scans.scan import Scan

GRID_TOLERANCE = 1e-3
"""Grids whose corners lie closer than this many millimetres are the same."""


def read_channels(sources: Sequence[Source | Path], num_channels: int | None = None) -> Scan:
    """Read co-registered files as the channels of one scan, in the order given.

    Args:
        sources: At least one. A single source may hold several channels itself.
        num_channels: How many are wanted: a colour image whose channels are all equal, which is read as one channel,
            keeps them where they are that many. Nothing else is made to fit.

    Returns:
        A scan with the geometry of the first file.

    Raises:
        DataError: A file cannot be read, or lies on another grid than the first one.
    """
    names = [source.name if isinstance(source, Source) else source.as_posix() for source in sources]
    first, *others = (read_scan(source) for source in sources)
    for name, other in zip(names[1:], others, strict=True):
        difference = grid_difference(first, other)
        if difference:
            fix = "channels of one case lie on the same grid: resample them to one"
            raise DataError(f"{difference} than the first channel", where=name, fix=fix)
    if not others:
        return _with_equal_colours(first, sources[0], num_channels)
    voxels = np.concatenate([first.voxels, *(other.voxels for other in others)])
    problems = (problem for scan in (first, *others) for problem in scan.problems)
    return replace(first, voxels=voxels, problems=tuple(dict.fromkeys(problems)))


def _with_equal_colours(scan: Scan, source: Source | Path, num_channels: int | None) -> Scan:
    if num_channels is None or scan.ndim != 2 or not scan.num_channels == 1 < num_channels:
        return scan
    if read_header(source).num_channels != num_channels:
        return scan
    return replace(scan, voxels=np.repeat(scan.voxels, num_channels, axis=0))


def grid_difference(first: Scan, other: Scan) -> str | None:
    """Say how the voxel grid of one scan differs from that of another; `None` where they are the same.

    Grids are compared after reorientation to RAS+, so that the same grid stored in another axis order is the same.
    Volumes agree where no corner lies `GRID_TOLERANCE` mm or more away; 2D images without geometry by their shape.

    Args:
        first: What to compare with.
        other: What is described.

    Returns:
        Such as `"has another shape (10, 12, 8), not (10, 12, 9),"`, to be followed by `"than ..."`.
    """
    if first.shape != other.shape:
        return f"has another shape, {_times(other.shape)} and not {_times(first.shape)},"
    if first.affine is None or other.affine is None:
        return None if first.affine is other.affine else "has another geometry (only one of them has any)"
    corners = np.array([(*corner, 1) for corner in product(*((0, edge - 1) for edge in first.shape))])
    shift = np.linalg.norm((corners @ (other.affine - first.affine).T)[:, :3], axis=1).max()
    return None if shift < GRID_TOLERANCE else f"has another affine (corners lie up to {shift:.3g} mm apart)"


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
