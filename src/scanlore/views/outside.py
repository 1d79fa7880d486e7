"""Which points of a view lie outside its scan: in closed form, an interval of inside points per line of the grid."""

from __future__ import annotations

from itertools import product

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scanlore.views.view import FloatArray, View

# Points on the edge itself are inside, whatever rounding does to them
SLACK = 1e-6


def fill_outside(values: Tensor, view: View, shape: tuple[int, ...], value: float) -> None:
    """Set the points of a view outside its scan, in place.

    A point is outside where it lies behind the edge of the outermost voxel, half a voxel from its middle.

    Args:
        values: Of the view, `view.size`.
        view: Where it lies in the scan.
        shape: Of the scan (level 0).
        value: For the points outside.
    """
    if is_inside(view, shape):
        return
    first, last = _intervals(view, shape)
    along = torch.arange(view.size[-1], dtype=torch.int32)
    lines = values.view(-1, view.size[-1])
    outside = along < torch.from_numpy(first)[:, None]
    outside |= along > torch.from_numpy(last)[:, None]
    lines.masked_fill_(outside, value)


def is_inside(view: View, shape: tuple[int, ...]) -> bool:
    """Return whether no point of a view lies outside its scan: its corners do not."""
    corners = np.array(list(product(*((0, edge - 1) for edge in view.size))))
    places = corners @ view.matrix[:, :-1].T + view.matrix[:, -1]
    inside = (places >= -0.5 - SLACK) & (places <= np.asarray(shape) - 0.5 + SLACK)
    return bool(inside.all())


def _intervals(view: View, shape: tuple[int, ...]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Return the first and the last inside point of every line along the last axis, `(lines,)` each."""
    first = np.zeros(view.size[:-1])
    last = np.full(view.size[:-1], view.size[-1] - 1.0)
    for row, edge in zip(view.matrix, shape, strict=True):
        start = _starts(row, view.size[:-1])
        low, high = -0.5 - SLACK - start, edge - 0.5 + SLACK - start
        step = row[-2]
        if abs(step) < 1e-12:
            last[(low > 0) | (high < 0)] = -1
            continue
        ends = np.stack([low, high]) / step
        first = np.maximum(first, np.ceil(ends.min(0)))
        last = np.minimum(last, np.floor(ends.max(0)))
    return _whole(first, view.size[-1]), _whole(last, view.size[-1])


def _whole(ends: FloatArray, length: int) -> npt.NDArray[np.int32]:
    return ends.clip(-1, length).astype(np.int32).reshape(-1)


def _starts(row: FloatArray, size: tuple[int, ...]) -> FloatArray:
    """Return one source coordinate of the first point of every line."""
    start = np.full(size, row[-1])
    for axis, edge in enumerate(size):
        along = [1] * len(size)
        along[axis] = -1
        start = start + (row[axis] * np.arange(edge)).reshape(along)
    return np.asarray(start)
