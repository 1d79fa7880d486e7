"""The level chain of a scan: halved in-plane and through-plane in turn.

Views have unlike steps per axis, so halving all axes at once would force most of them onto the finest level. A level's
voxel `c` of axis `a` covers voxels `c * f` to `(c + 1) * f - 1` of level 0, so that level-0 coordinate `x` lies at
`(x + 0.5) / f - 0.5`; an odd last voxel is averaged with itself.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

Factors = tuple[int, ...]
SMALLEST_EDGE = 16


def level_factors(shape: tuple[int, ...], through_axis: int | None) -> list[Factors]:
    """Return the reduction factors of every level, level 0 first.

    The group of axes that holds the longer axis is halved, in-plane first where they are equal: scans with as many
    slices as rows alternate, thick-slice scans first catch up in-plane. The chain ends when no axis is longer than
    `SMALLEST_EDGE`.

    Args:
        shape: Spatial shape of level 0.
        through_axis: Axis across the slices; `None` halves all axes together (2D images).
    """
    factors = [(1,) * len(shape)]
    size = np.array(shape)
    through = np.array([axis == through_axis for axis in range(len(shape))])
    while size.max() > SMALLEST_EDGE:
        in_plane_longest = size[~through].max()
        group = through if through.any() and size[through].max() > in_plane_longest else ~through
        group = group & (size > 1)
        size = np.where(group, -(-size // 2), size)
        factors.append(tuple(int(f) for f in np.where(group, 2, 1) * np.array(factors[-1])))
    return factors


def build_levels(voxels: npt.NDArray[np.int16], factors: list[Factors]) -> Iterator[npt.NDArray[np.int16]]:
    """Yield the voxels of every level, each averaged from the unrounded one before.

    Args:
        voxels: Level 0.
        factors: From `level_factors`.
    """
    yield voxels
    current: npt.NDArray[np.generic] = voxels
    for before, after in itertools.pairwise(factors):
        for axis in range(voxels.ndim):
            if after[axis] > before[axis]:
                current = _halve(current, axis)
        yield np.rint(current).astype(np.int16)


def _halve(voxels: npt.NDArray[Any], axis: int) -> npt.NDArray[np.float32]:
    before = (slice(None),) * axis
    even, odd = (voxels[(*before, slice(first, None, 2))] for first in (0, 1))
    result = even.astype(np.float32)
    pairs = result[(*before, slice(0, odd.shape[axis]))]
    pairs += odd
    pairs *= 0.5
    return result


def level_affine(affine: npt.NDArray[np.floating], factors: Factors) -> npt.NDArray[np.float64]:
    """Return the (4, 4) voxel-to-mm affine of a level from that of level 0.

    Args:
        affine: (4, 4) affine of level 0.
        factors: Reduction factors of the level.
    """
    scale = np.eye(4)
    for axis, factor in enumerate(factors):
        scale[axis, axis] = factor
        scale[axis, 3] = (factor - 1) / 2
    return np.asarray(affine, dtype=np.float64) @ scale
