"""Oblique maps: exact trilinear interpolation, or nearest neighbours, tile by tile so that a tile stays in cache.

The bilinear `grid_sample` of images is vectorised on CPUs, that of volumes is not. So the planes of a volume are
stacked into one high image: a point between two planes reads its row of the lower plane from one channel and the same
row of the upper plane from a second channel, which is the same memory one plane further on.
"""

from __future__ import annotations

import math
from itertools import pairwise, product
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from scanlore.scans.intensity import LinearMap
from scanlore.views.view import FloatArray, View

Mode = Literal["linear", "nearest"]
Part = tuple[int, int]
# Measured: longest edges of a tile of a slice and of a volume. Coordinates are float32, so tiles also keep a row of the
# stacked planes exact to a thousandth of a voxel.
LONGEST = {2: 160, 3: 48}


def oblique_box(view: View, shape: tuple[int, ...]) -> tuple[slice, ...]:
    """Return the smallest box of voxels that a view reads, at least one voxel thick."""
    return _box(view.matrix, [(0, edge) for edge in view.size], shape)


def sample_oblique(block: npt.NDArray[np.generic], view: View, mode: Mode, scaling: LinearMap | None = None) -> Tensor:
    """Sample a view from a box of voxels; outside the box its edge is repeated.

    Args:
        block: Voxels with as many axes as the source of the view.
        view: In the voxels of the block.
        mode: How to interpolate.
        scaling: From stored values to those of the view; `None` keeps them.

    Returns:
        float32 tensor of shape `view.size`.
    """
    voxels = torch.from_numpy(block)
    voxels = voxels.reshape((1,) * (3 - voxels.ndim) + voxels.shape)
    matrix, size = _in_space(view)
    values = torch.empty(size)
    longest = LONGEST[len(view.size)]
    for parts in product(*(_parts(edge, longest) for edge in size)):
        box = _box(matrix, parts, tuple(voxels.shape))
        local = matrix.copy()
        local[:, -1] -= [side.start for side in box]
        tile = _sample_tile(voxels[box].float(), local, parts, mode)
        if scaling is not None:
            tile.mul_(scaling.gain).add_(scaling.bias).clamp_(scaling.low, scaling.high)
        values[tuple(slice(*part) for part in parts)] = tile
    return values.view(view.size)


def _in_space(view: View) -> tuple[FloatArray, tuple[int, int, int]]:
    """Return map and size of a view as those of a grid of three axes in a volume: a slice is one voxel thick."""
    num_source, num_grid = view.matrix.shape[0], len(view.size)
    matrix = np.zeros((3, 4))
    matrix[3 - num_source :, 3 - num_grid :] = view.matrix
    first, second, third = (1,) * (3 - num_grid) + view.size
    return matrix, (first, second, third)


def _parts(edge: int, longest: int) -> list[Part]:
    bounds = np.linspace(0, edge, math.ceil(edge / longest) + 1).astype(int).tolist()
    return list(pairwise(bounds))


def _box(matrix: FloatArray, parts: tuple[Part, ...] | list[Part], shape: tuple[int, ...]) -> tuple[slice, ...]:
    """Return the box of voxels around a part of a grid, within `shape`."""
    corners = np.array(list(product(*((start, stop - 1) for start, stop in parts))))
    places = corners @ matrix[:, :-1].T + matrix[:, -1]
    starts = np.clip(np.floor(places.min(0)), 0, np.asarray(shape) - 1).astype(int)
    stops = np.clip(np.floor(places.max(0)) + 2, starts + 1, shape).astype(int)
    return tuple(slice(int(start), int(stop)) for start, stop in zip(starts, stops, strict=True))


def _sample_tile(block: Tensor, matrix: FloatArray, parts: tuple[Part, ...], mode: Mode) -> Tensor:
    """Sample one tile from its own box of float voxels."""
    planes, height, width = block.shape
    plane = _coordinate(matrix[0], parts)
    lower = plane.floor() if mode == "linear" else plane.round()
    lower.clamp_(0, max(planes - (2 if mode == "linear" else 1), 0))
    num_rows = max(planes - 1, 1) * height if mode == "linear" else planes * height
    # grid_sample wants the last axis first, and the image from -1 to 1
    down, across = 2 / max(num_rows - 1, 1), 2 / max(width - 1, 1)
    row = _coordinate(down * matrix[1], parts).clamp_(0, down * (height - 1)).add_(lower, alpha=down * height)
    grid = torch.empty((*plane.shape, 2))
    torch.sub(row, 1, out=grid[..., 1])
    _coordinate(across * matrix[2] - [0, 0, 0, 1], parts, out=grid[..., 0])
    lines = grid.view(1, plane.shape[0], -1, 2)
    if mode == "nearest":
        image = block.reshape(1, 1, num_rows, width)
        return F.grid_sample(image, lines, "nearest", "border", align_corners=True).view(plane.shape)
    above = height * width if planes > 1 else 0
    image = block.as_strided((1, 2, num_rows, width), (0, above, width, 1))
    low, high = F.grid_sample(image, lines, "bilinear", "border", align_corners=True)[0]
    return torch.lerp(low, high, plane.sub_(lower).clamp_(0, 1).view(low.shape)).view(plane.shape)


def _coordinate(row: FloatArray, parts: tuple[Part, ...], out: Tensor | None = None) -> Tensor:
    """Return one source coordinate of every point of a tile."""
    first, second, third = (torch.arange(*part) * step for part, step in zip(parts, row, strict=False))
    lines = first[:, None] + (second + row[-1])
    return torch.add(lines.float()[:, :, None], third.float(), out=out)
