"""Sampling a view: the right level, one interpolation, one linear map of intensities.

Axis-aligned maps are sampled separably: linear interpolation along two axes by indexing, a matrix product along the
third; flips and quarter turns are only another order of reading. Oblique maps are in `oblique`.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scanlore.corpus.store import Pyramid
from scanlore.scans.intensity import LinearMap
from scanlore.views.oblique import oblique_box, sample_oblique
from scanlore.views.outside import fill_outside
from scanlore.views.view import FloatArray, View

Rule = Literal["pretraining", "evaluation"]
# How much coarser than the view a level may be. sqrt(2) reads few voxels per voxel of a view and blurs a little just
# above a switch; evaluation never reads a level coarser than the view.
TOLERANCE: dict[str, float] = {"pretraining": float(np.sqrt(2)), "evaluation": 1.0}
# Measured: slabs of this many voxels and products of this many columns are the fastest on cores with 1 MB of cache.
# Views of a scan overlap: decoding a whole level once costs less than the blocks around every view of it.
LARGEST_SHARED, SMALLEST_SHARE = 1 << 23, 1 / 64
SLAB_VOXELS = 1 << 18
BAND = 24


def choose_level(factors: tuple[tuple[int, ...], ...], steps: FloatArray, rule: Rule) -> int:
    """Return the coarsest level that `rule` allows for a view.

    Args:
        factors: Reduction factors of every level.
        steps: Source voxels per grid step, per source axis; never asks for more than level 0 has.
        rule: `pretraining` allows levels up to sqrt(2) coarser than the view, `evaluation` none.
    """
    limit = TOLERANCE[rule] * np.maximum(steps, 1.0) * (1 + 1e-9)
    return int(np.flatnonzero((np.asarray(factors) <= limit).all(axis=1))[-1])


def sample(pyramid: Pyramid, view: View, scaling: LinearMap, rule: Rule, outside: float | None = None) -> Tensor:
    """Sample one view.

    Args:
        pyramid: Levels of one scan channel.
        view: Where to sample.
        scaling: From intensities to the values of the view.
        rule: How the level is chosen.
        outside: Value of the view outside the scan, behind the edge of its last voxel; `None` repeats the edge.

    Returns:
        float32 tensor of shape `view.size`.
    """
    level, scaled = _at_level(pyramid, view, rule)
    bias = scaling.gain * pyramid.intercept + scaling.bias
    scaling = LinearMap(scaling.gain * pyramid.slope, bias, scaling.low, scaling.high)
    take = _sample_aligned if view.is_axis_aligned() else _sample_oblique
    values = take(pyramid, level, scaled, scaling)
    if outside is not None:
        fill_outside(values, view, pyramid.shape(0), outside)
    return values


def sample_labels(pyramid: Pyramid, view: View, outside: int = 0) -> Tensor:
    """Sample labels: every point takes that of the nearest voxel.

    Args:
        pyramid: Levels of a label map.
        view: Where to sample.
        outside: Label outside the scan.

    Returns:
        Tensor of the stored integers' kind, of shape `view.size`.
    """
    level, scaled = _at_level(pyramid, view, "evaluation")
    take = _nearest_aligned if view.is_axis_aligned() else _nearest_oblique
    labels = torch.from_numpy(take(pyramid, level, scaled))
    fill_outside(labels, view, pyramid.shape(0), outside)
    return labels


def _at_level(pyramid: Pyramid, view: View, rule: Rule) -> tuple[int, View]:
    """Return the level for a view, and the view in the voxels of that level."""
    level = choose_level(pyramid.factors, view.steps, rule)
    factor = np.asarray(pyramid.factors[level], dtype=np.float64)
    matrix = view.matrix / factor[:, None]
    matrix[:, -1] = (view.matrix[:, -1] + 0.5) / factor - 0.5
    return level, View(matrix, view.size)


def _nearest_aligned(pyramid: Pyramid, level: int, view: View) -> npt.NDArray[np.generic]:
    columns, coordinates = _along_axes(view, pyramid.shape(level))
    nearest = [np.floor(along + 0.5).astype(np.int64) for along in coordinates]
    starts = [int(along.min()) for along in nearest]
    block = _read(pyramid, level, tuple(slice(a, int(n.max()) + 1) for a, n in zip(starts, nearest, strict=True)))
    for axis, (start, along) in enumerate(zip(starts, nearest, strict=True)):
        block = _pick(block, along - start, axis)
    return np.ascontiguousarray(block.transpose(_grid_order(columns)).reshape(view.size))


def _pick(block: npt.NDArray[np.generic], places: npt.NDArray[np.int64], axis: int) -> npt.NDArray[np.generic]:
    """Take places along an axis; those in their order, or in reverse, are only another order of reading."""
    steps = set(np.diff(places).tolist())
    if steps <= {1}:
        return block
    return np.flip(block, axis) if steps == {-1} else block.take(places, axis)


def _nearest_oblique(pyramid: Pyramid, level: int, view: View) -> npt.NDArray[np.generic]:
    block, local = _oblique_block(pyramid, level, view)
    return sample_oblique(block, local, "nearest").numpy().astype(block.dtype)


def _sample_aligned(pyramid: Pyramid, level: int, view: View, scaling: LinearMap) -> Tensor:
    columns, coordinates = _along_axes(view, pyramid.shape(level))
    if all(np.array_equal(along, np.rint(along)) for along in coordinates):
        return _scaled(torch.from_numpy(_nearest_aligned(pyramid, level, view)), scaling)
    starts = [int(min(c[0], c[-1])) for c in coordinates]
    stops = [min(int(max(c[0], c[-1])) + 2, edge) for c, edge in zip(coordinates, pyramid.shape(level), strict=True)]
    block = _read(pyramid, level, tuple(slice(a, b) for a, b in zip(starts, stops, strict=True)))
    # From here on the axes are in the order of the grid's, those across a slice first: a turn is only other strides
    order = _grid_order(columns)
    inner = [coordinates[axis] - starts[axis] for axis in order]
    return _interpolate(torch.from_numpy(block.transpose(order)), inner, scaling).reshape(view.size)


def _scaled(block: Tensor, scaling: LinearMap) -> Tensor:
    """Return stored values as those of a view, slab by slab, so that a slab stays in cache."""
    values = torch.empty(block.shape)
    rows = max(1, SLAB_VOXELS // max(1, block[0].numel()))
    for slab, stored in zip(values.split(rows), block.split(rows), strict=True):
        slab.copy_(stored).mul_(scaling.gain).add_(scaling.bias).clamp_(scaling.low, scaling.high)
    return values


def _along_axes(view: View, shape: tuple[int, ...]) -> tuple[list[int | None], list[FloatArray]]:
    """Return the grid axis that runs along each source axis, and the source coordinates along it."""
    columns = [_grid_axis(row) for row in view.matrix[:, :-1]]
    coordinates = []
    for row, column, edge in zip(view.matrix, columns, shape, strict=True):
        along = row[-1:] if column is None else row[column] * np.arange(view.size[column]) + row[-1]
        coordinates.append(along.clip(0, edge - 1))
    return columns, coordinates


def _grid_order(columns: list[int | None]) -> list[int]:
    """Return the source axes in the order of the grid's, those across a slice first."""
    return sorted(range(len(columns)), key=[-1 if column is None else column for column in columns].__getitem__)


def _grid_axis(row: FloatArray) -> int | None:
    hits = np.flatnonzero(np.abs(row) > 1e-12)
    return int(hits[0]) if hits.size else None


def _read(pyramid: Pyramid, level: int, box: tuple[slice, ...]) -> npt.NDArray[np.generic]:
    """Read a box; where it is a fair part of a small stored level, from the whole, which other views of it share."""
    place, voxels = pyramid.levels[level], math.prod(pyramid.shape(level))
    share = math.prod(part.stop - part.start for part in box) / voxels
    if isinstance(place, tuple) and voxels <= LARGEST_SHARED and share >= SMALLEST_SHARE:
        return _whole_level(Pyramid((pyramid.factors[level],), (place,), 1.0, 0.0))[box]
    return np.ascontiguousarray(pyramid.read(level, box))


@lru_cache(maxsize=4)
def _whole_level(pyramid: Pyramid) -> npt.NDArray[np.generic]:
    return pyramid.read(0, (slice(None),) * len(pyramid.factors[0]))


def _interpolate(block: Tensor, coordinates: list[FloatArray], scaling: LinearMap) -> Tensor:
    """Interpolate linearly along every axis and scale, slab by slab along the first, so that a slab stays in cache."""
    sizes = [len(along) for along in coordinates]
    values = torch.empty(sizes)
    products = _products(coordinates[-1], block.shape[-1], scaling.gain)
    per_plane = max(block[0].numel(), values[0].numel())
    rows = max(1, round(SLAB_VOXELS * sizes[0] / block.shape[0]) // per_plane)
    for first in range(0, sizes[0], rows):
        slab = values[first : first + rows]
        along = coordinates[0][first : first + rows]
        start, stop = int(min(along[0], along[-1])), int(max(along[0], along[-1])) + 2
        planes = torch.empty(block[start:stop].shape).copy_(block[start:stop])
        planes = _lerp(planes, 0, along - start)
        for axis in range(1, block.ndim - 1):
            planes = _lerp(planes, axis, coordinates[axis])
        _multiply(planes.reshape(-1, block.shape[-1]), products, slab.view(-1, sizes[-1]))
        slab.add_(scaling.bias).clamp_(scaling.low, scaling.high)
    return values


def _lerp(values: Tensor, axis: int, coordinates: FloatArray) -> Tensor:
    lower = coordinates.astype(np.int64)
    upper = np.minimum(lower + 1, values.shape[axis] - 1)
    shape = [1] * values.ndim
    shape[axis] = -1
    weight = torch.from_numpy((coordinates - lower).astype(np.float32)).reshape(shape)
    left = values.index_select(axis, torch.from_numpy(lower))
    return left.lerp_(values.index_select(axis, torch.from_numpy(upper)), weight.expand_as(left))


def _products(coordinates: FloatArray, length: int, gain: float) -> list[tuple[slice, slice, Tensor]]:
    """Return interpolation along the last axis as parts of its matrix: voxels read, grid points written, weights."""
    weights = _weights(coordinates, length).mul_(gain)
    products = []
    for first in range(0, len(coordinates), BAND):
        along = coordinates[first : first + BAND]
        read = slice(int(min(along[0], along[-1])), int(max(along[0], along[-1])) + 2)
        written = slice(first, first + len(along))
        products.append((read, written, weights[read, written]))
    return products


def _multiply(values: Tensor, products: list[tuple[slice, slice, Tensor]], out: Tensor) -> None:
    for read, written, weights in products:
        torch.mm(values[:, read], weights, out=out[:, written])


def _weights(coordinates: FloatArray, length: int) -> Tensor:
    """Return the `(length, len(coordinates))` matrix of linear interpolation."""
    lower = coordinates.astype(np.int64)
    fraction = (coordinates - lower).astype(np.float32)
    matrix = np.zeros((length, len(coordinates)), dtype=np.float32)
    columns = np.arange(len(coordinates))
    matrix[lower, columns] = 1 - fraction
    matrix[np.minimum(lower + 1, length - 1), columns] += fraction
    return torch.from_numpy(matrix)


def _sample_oblique(pyramid: Pyramid, level: int, view: View, scaling: LinearMap) -> Tensor:
    block, local = _oblique_block(pyramid, level, view)
    return sample_oblique(block, local, "linear", scaling)


def _oblique_block(pyramid: Pyramid, level: int, view: View) -> tuple[npt.NDArray[np.generic], View]:
    """Read what a view needs, and return the view in the voxels of that block."""
    box = oblique_box(view, pyramid.shape(level))
    matrix = view.matrix.copy()
    matrix[:, -1] -= [side.start for side in box]
    return pyramid.read(level, box), View(matrix, view.size)
