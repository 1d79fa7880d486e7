"""Where the cells of a feature map lie in a scan, and their values between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Places = npt.NDArray[np.integer]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Lattice:
    """A grid of cells along the axes of a scan; their distances may differ, as those of slices do.

    Attributes:
        centres: For each axis of the scan the voxel indices of the cells' centres, rising.
        low: For each axis the voxel index where the field of view begins: half a voxel before the first voxel in it.
        high: For each axis where it ends.
    """

    centres: tuple[Doubles, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]

    @property
    def grid(self) -> tuple[int, ...]:
        """Cells along each axis."""
        return tuple(len(axis) for axis in self.centres)


def lattice_of(view_affines: Sequence[Doubles], view_shape: tuple[int, ...], grid: tuple[int, ...]) -> Lattice:
    """Return where cells lie that a model computed from views of one scan.

    Args:
        view_affines: For each view the map from its voxel indices to the scan's, `(S, V + 1)`, along the scan's axes:
            all the same, or slices across one axis of a volume in rising order.
        view_shape: Spatial shape of the views.
        grid: Cells along each axis of a view.
    """
    first = view_affines[0]
    centres: list[Doubles] = [np.empty(0)] * len(first)
    low, high = [0.0] * len(first), [0.0] * len(first)
    for axis, row in enumerate(first):
        if row[:-1].any():
            column = int(np.abs(row[:-1]).argmax())
            edge, cells, step, start = view_shape[column], grid[column], float(row[column]), float(row[-1])
            centres[axis] = ((np.arange(cells) + 0.5) * edge / cells - 0.5) * step + start
            low[axis], high[axis] = start - step / 2, start + step * (edge - 0.5)
        else:
            places = np.array([float(affine[axis, -1]) for affine in view_affines])
            half = (places[-1] - places[0]) / (len(places) - 1) / 2 if len(places) > 1 else 0.5
            centres[axis], low[axis], high[axis] = places, float(places[0] - half), float(places[-1] + half)
    return Lattice(tuple(centres), tuple(low), tuple(high))


def at_voxels(values: Floats, lattice: Lattice, voxels: Sequence[Places]) -> Floats:
    """Interpolate values linearly between cells; beyond the outermost centres the nearest cell counts.

    Args:
        values: `(C, *grid)` on the lattice.
        lattice: Where the cells lie.
        voxels: For each axis of the scan the voxel indices wanted.

    Returns:
        `(C, *lengths of voxels)`.
    """
    out = values
    for axis, (centres, wanted) in enumerate(zip(lattice.centres, voxels, strict=True), start=1):
        place = np.interp(wanted, centres, np.arange(len(centres)))
        lower = place.astype(np.intp)
        weight = (place - lower).astype(np.float32).reshape([-1 if other == axis else 1 for other in range(out.ndim)])
        left = out.take(lower, axis)
        right = out.take(np.minimum(lower + 1, len(centres) - 1), axis)
        out = left + (right - left) * weight
    return out


def is_seen(lattice: Lattice, voxels: Sequence[Places]) -> Mask:
    """Return which voxels lie in the field of view, `(lengths of voxels)`."""
    seen = np.ones(tuple(len(wanted) for wanted in voxels), bool)
    for axis, (low, high, wanted) in enumerate(zip(lattice.low, lattice.high, voxels, strict=True)):
        inside = (wanted >= low) & (wanted <= high)
        seen &= inside.reshape([-1 if other == axis else 1 for other in range(len(voxels))])
    return seen


def seen_share(lattice: Lattice, shape: tuple[int, ...]) -> float:
    """Return the share of a scan's voxels that lie in the field of view, in [0, 1]."""
    counts = [
        is_seen(Lattice((centres,), (low,), (high,)), [np.arange(size)]).mean()
        for centres, low, high, size in zip(lattice.centres, lattice.low, lattice.high, shape, strict=True)
    ]
    return float(np.prod(counts))
