"""Where the windows of a sliding window lie, and how much each one counts; numpy only.

The rule is nnU-Net's (Isensee et al., Nature Methods 2021, supplementary note 4): windows cover the grid, evenly spread
at steps of at most `(1 - overlap) * patch`, and count more at their centre by a Gaussian of `sigma = patch / 8`.
As windows form a lattice and the Gaussian is a product over the axes, so is their sum: every axis is normalised on its
own, and the weights of all windows add up to exactly 1 at every point. No map of summed weights is needed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
SIGMAS_PER_PATCH = 8


@dataclass(frozen=True)
class Span:
    """A window along one axis.

    Attributes:
        start: Its first grid point; negative where the grid is smaller than the window.
        inside: The part of the window that lies on the grid.
        place: Where that part lies on the grid.
        weights: How much each point of it counts, in (0, 1]; over all windows they add up to 1.
    """

    start: int
    inside: slice
    place: slice
    weights: Floats


def spans(size: int, patch: int, overlap: float) -> list[Span]:
    """Return the windows along one axis, in rising order.

    Args:
        size: Points of the grid.
        patch: Points of a window.
        overlap: Share of a window that its neighbour covers as well, at least; in [0, 1).
    """
    starts = _starts(size, patch, overlap)
    insides = [slice(max(0, -start), min(patch, size - start)) for start in starts]
    places = [slice(start + inside.start, start + inside.stop) for start, inside in zip(starts, insides, strict=True)]
    # Its smallest value is exp(-8): no point of a window is without weight
    points = (np.arange(patch) - (patch - 1) / 2) * SIGMAS_PER_PATCH / patch
    bell = np.exp(-(points**2) / 2)
    total = np.zeros(size)
    for inside, place in zip(insides, places, strict=True):
        total[place] += bell[inside]
    weights = [(bell[inside] / total[place]).astype(np.float32) for inside, place in zip(insides, places, strict=True)]
    return [Span(*parts) for parts in zip(starts, insides, places, weights, strict=True)]


def _starts(size: int, patch: int, overlap: float) -> list[int]:
    if size <= patch:
        return [-((patch - size) // 2)]
    num_steps = math.ceil((size - patch) / max(1.0, (1 - overlap) * patch))
    return [round(step * (size - patch) / num_steps) for step in range(num_steps + 1)]


def windows(grid: tuple[int, ...], patch: tuple[int, ...], overlap: float, slow: int) -> Iterator[tuple[Span, ...]]:
    """Yield all windows of a grid as one span per axis, the axis `slow` changing last."""
    axes = [spans(size, edge, overlap) for size, edge in zip(grid, patch, strict=True)]
    order = [slow, *(axis for axis in range(len(grid)) if axis != slow)]
    for chosen in product(*(axes[axis] for axis in order)):
        yield tuple(chosen[order.index(axis)] for axis in range(len(grid)))


def num_windows(grid: tuple[int, ...], patch: tuple[int, ...], overlap: float) -> int:
    """Return how many windows cover a grid."""
    return math.prod(len(_starts(size, edge, overlap)) for size, edge in zip(grid, patch, strict=True))
