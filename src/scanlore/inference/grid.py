"""The grid a segmenter sees a scan on, and the levels of the scan that its windows are sampled from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from scanlore.corpus.levels import build_levels, level_factors
from scanlore.corpus.quantise import Quantiser, Stored, quantiser
from scanlore.corpus.store import Pyramid
from scanlore.scans.intensity import IntensityStats
from scanlore.views.sampler import choose_level
from scanlore.views.view import View

Doubles = npt.NDArray[np.float64]
SAME_STEP = 1e-4
"""Spacings that differ by less than this share are the same: headers are rounded."""
SLAB_VOXELS = 1 << 22


@dataclass(frozen=True)
class Grid:
    """A regular grid laid centrally over a scan, along its axes.

    Attributes:
        shape: Points along each axis.
        steps: Scan voxels between neighbouring points along each axis.
        origin: Scan voxel index of the first point along each axis.
    """

    shape: tuple[int, ...]
    steps: Doubles
    origin: Doubles

    def view(self, starts: tuple[int, ...], size: tuple[int, ...]) -> View:
        """Return a part of the grid as a view of the scan; it may reach beyond the grid."""
        return View(np.column_stack([np.diag(self.steps), self.origin + self.steps * np.array(starts)]), size)

    def coordinates(self, axis: int, num_voxels: int) -> Doubles:
        """Return where the scan's voxels lie between the points of an axis, clipped to the grid."""
        along = (np.arange(num_voxels) - self.origin[axis]) / self.steps[axis]
        return np.asarray(np.clip(along, 0, self.shape[axis] - 1))


def lay_grid(
    shape: tuple[int, ...], spacing: tuple[float, ...] | None, wanted: tuple[float, ...] | None = None
) -> Grid:
    """Return the grid of a wanted spacing over a scan; its own voxels where either spacing is unknown.

    Args:
        shape: Spatial shape of the scan.
        spacing: Of the scan in mm.
        wanted: Of the grid in mm; kept exactly, so that the grid may end up to half a step off the scan's edges.
    """
    steps = np.ones(len(shape)) if spacing is None or wanted is None else np.array(wanted) / np.array(spacing)
    steps = np.where(np.abs(steps - 1) < SAME_STEP, 1.0, steps)
    points = tuple(max(1, round(edge / step)) for edge, step in zip(shape, steps.tolist(), strict=True))
    origin = (np.array(shape) - 1 - steps * (np.array(points) - 1)) / 2
    return Grid(points, steps, origin)


@dataclass(frozen=True)
class Quantised:
    """Level 0 of a scan in memory, with the numbers a store would hold made only where they are read.

    Attributes:
        voxels: One channel.
        rule: How its intensities become stored numbers.
    """

    voxels: npt.NDArray[Any]
    rule: Quantiser

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the level."""
        return self.voxels.shape

    def __getitem__(self, box: tuple[slice, ...]) -> Stored:
        return self.rule(self.voxels[box])


def memory_pyramid(
    voxels: npt.NDArray[Any], through_axis: int | None, stats: IntensityStats, steps: Doubles
) -> Pyramid:
    """Return what a store would hold of a channel, as far as a grid of some steps needs it.

    Level 0 is not copied. The one level that evaluation reads at these steps is built slab by slab.

    Args:
        voxels: One channel.
        through_axis: As in `Scan`.
        stats: Of the channel.
        steps: Scan voxels between grid points along each axis.
    """
    finest = Quantised(voxels, quantiser(voxels, stats))
    factors = level_factors(voxels.shape, through_axis)
    level = choose_level(tuple(factors), steps, "evaluation")
    used, levels = factors[:1], [finest]
    if level:
        used, levels = [factors[0], factors[level]], [finest, _build_level(finest, factors[: level + 1])]
    return Pyramid(tuple(used), tuple(levels), finest.rule.slope, finest.rule.intercept)


def _build_level(finest: Quantised, factors: list[tuple[int, ...]]) -> Any:
    """Build the last of some levels without the whole of those before it."""
    last = np.array(factors[-1])
    built = np.empty(tuple(-(-np.array(finest.shape) // last)), finest.rule.dtype)
    per_plane = built[0].size * int(last.prod())
    rows = max(1, SLAB_VOXELS // per_plane)
    for first in range(0, len(built), rows):
        part = finest[slice(first * int(last[0]), (first + rows) * int(last[0])),]
        *_, built[first : first + rows] = build_levels(part, factors)
    return built
