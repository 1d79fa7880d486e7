"""The level chain of a scan: halved in-plane and through-plane in turn.

Views have unlike steps per axis, so halving all axes at once would force most of them onto the finest level. A level's
voxel `c` of axis `a` covers voxels `c * f` to `(c + 1) * f - 1` of level 0, so that level-0 coordinate `x` lies at
`(x + 0.5) / f - 0.5`; an odd last voxel is averaged with itself. Labels are never averaged: a voxel has the label that
most of the voxels have which it covers.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from scanlore.corpus.quantise import Labels, Stored
from scanlore.corpus.store import Factors
from scanlore.corpus.tiles import forwards

Box = tuple[slice, ...]
SMALLEST_EDGE = 16
SLAB_VOXELS = 1 << 20
KEPT_SHARE = 4
"""Sums of at most a quarter of the bytes of level 0 are kept."""


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


def build_levels(voxels: Stored, factors: list[Factors]) -> Iterator[Stored]:
    """Yield the voxels of every level, each averaged from the unrounded one before.

    int16 is summed exactly and rounded once, halves up; float16 is summed as float32. Sums that are large are rounded
    where they are and made anew for the next level, so that besides level 0 half of its size is in memory at a time.

    Args:
        voxels: Level 0.
        factors: From `level_factors`.
    """
    yield voxels
    known, sums, bound = factors[0], voxels, _bound(voxels)
    for level in factors[1:]:
        cells = _sums(sums, known, level, bound)
        if cells.nbytes <= voxels.nbytes // KEPT_SHARE:
            known, sums = level, cells
            cells = cells.copy(order="K")
        means = _means(cells, math.prod(level), voxels.dtype)
        del cells  # nothing but the means while the caller works on them, and nothing of them afterwards
        yield means
        del means


def _sums(voxels: npt.NDArray[Any], known: Factors, level: Factors, bound: int) -> npt.NDArray[Any]:
    """Return the sums of the voxels of level 0 in each cell of a level, from those of a finer one.

    Slab by slab across the axis that runs slowest in memory, so that a slab stays in cache.
    """
    steps = tuple(after // before for before, after in zip(known, level, strict=True))
    cells = voxels[tuple(slice(None, None, step) for step in steps)]
    sums = np.empty_like(cells, dtype=_wide_enough(bound * math.prod(level)))
    axis = int(np.argmax(np.abs(voxels.strides)))
    across = (slice(None),) * axis
    rows = max(1, SLAB_VOXELS * voxels.shape[axis] // voxels.size // steps[axis])
    for first in range(0, sums.shape[axis], rows):
        slab = voxels[(*across, slice(first * steps[axis], (first + rows) * steps[axis]))]
        sums[(*across, slice(first, first + rows))] = _sums_of(slab, steps, math.prod(known), bound)
    return sums


def _sums_of(voxels: npt.NDArray[Any], steps: Factors, count: int, bound: int) -> npt.NDArray[Any]:
    for axis, step in enumerate(steps):
        for _ in range(step.bit_length() - 1):
            count *= 2
            voxels = _add_pairs(voxels, axis, _wide_enough(bound * count), repeat_edge=True)
    return voxels


def _bound(voxels: Stored) -> int:
    """Return what no number exceeds, one for rounding included; 0 for float16, of which no sum is too large."""
    if voxels.dtype == np.float16:
        return 0
    ordered = forwards(voxels)
    return max(-int(ordered.min()), int(ordered.max())) + 1


def build_label_levels(labels: Labels, factors: list[Factors]) -> list[Labels]:
    """Return every level of a label map: each voxel the label most frequent among the voxels of level 0 it covers.

    Counted exactly, class by class within its own bounding box. Where two are equally frequent the smaller label is
    taken, but any label before 0, so that what is thin does not vanish into the background.

    Args:
        labels: Level 0, class numbers from 0 on.
        factors: From `level_factors`.
    """
    shapes = [tuple(-(-edge // f) for edge, f in zip(labels.shape, level, strict=True)) for level in factors]
    levels: list[Labels] = [labels, *(np.zeros(shape, labels.dtype) for shape in shapes[1:])]
    most = [np.zeros(shape, _wide_enough(math.prod(factors[-1]))) for shape in shapes[1:]]
    boxes = {number: box for number, box in enumerate(ndimage.find_objects(labels), start=1) if box is not None}
    for label, box in (boxes | {0: tuple(slice(0, edge) for edge in labels.shape)}).items():
        counts = _counts(labels, label, _aligned(box, factors[-1]), factors)
        for level, (place, number) in enumerate(counts):
            more = number > most[level][place]
            levels[level + 1][place][more] = label
            most[level][place][more] = number[more]
    return levels


def _counts(
    labels: Labels, label: int, box: Box, factors: list[Factors]
) -> Iterator[tuple[Box, npt.NDArray[np.integer]]]:
    """Yield how many voxels of a label each voxel of the levels above 0 covers, within a box of level 0."""
    counts: npt.NDArray[Any] = labels[box] == label
    for before, after in itertools.pairwise(factors):
        for axis in _halved(before, after):
            counts = _add_pairs(counts, axis, _wide_enough(math.prod(after)), repeat_edge=False)
        starts = [side.start // factor for side, factor in zip(box, after, strict=True)]
        yield tuple(slice(start, start + edge) for start, edge in zip(starts, counts.shape, strict=True)), counts


def _aligned(box: Box, factors: Factors) -> Box:
    """Widen a box to whole voxels of a level; it may end beyond the last voxel."""
    return tuple(
        slice(side.start // factor * factor, -(-side.stop // factor) * factor)
        for side, factor in zip(box, factors, strict=True)
    )


def _halved(before: Factors, after: Factors) -> list[int]:
    return [axis for axis, (a, b) in enumerate(zip(before, after, strict=True)) if b > a]


def _wide_enough(bound: int) -> np.dtype[Any]:
    """Return the narrowest type for sums up to a bound: narrow ones are several times faster."""
    if not bound:
        return np.dtype(np.float32)
    return next(np.dtype(kind) for kind in (np.int16, np.int32, np.int64) if bound <= np.iinfo(kind).max)


def _add_pairs(voxels: npt.NDArray[Any], axis: int, dtype: np.dtype[Any], *, repeat_edge: bool) -> npt.NDArray[Any]:
    """Add neighbours along an axis; an odd last voxel counts twice, or once."""
    before = (slice(None),) * axis
    even, odd = (voxels[(*before, slice(first, None, 2))] for first in (0, 1))
    sums = np.empty_like(even, dtype=dtype)
    pairs, rest = (*before, slice(0, odd.shape[axis])), (*before, slice(odd.shape[axis], None))
    np.add(even[pairs], odd, out=sums[pairs], dtype=dtype)
    sums[rest] = even[rest]
    if repeat_edge:
        sums[rest] *= 2
    return sums


def _means(sums: npt.NDArray[Any], count: int, dtype: np.dtype[Any]) -> Stored:
    """Return sums divided by their number; overwrites them."""
    if dtype == np.float16:
        sums *= np.float32(1 / count)
        return sums.astype(np.float16)
    sums += sums.dtype.type(count // 2)
    sums >>= count.bit_length() - 1
    return sums.astype(np.int16, copy=False)
