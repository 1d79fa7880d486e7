"""A view: an affine map from its own grid to the voxels of a scan."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class View:
    """One view of a scan.

    Attributes:
        matrix: `(S, V + 1)`: source voxel index (level 0) = `matrix[:, :V] @ grid index + matrix[:, V]` for a view of
            `V` axes on a scan of `S` axes; `V` is 2 for a slice of a volume.
        size: Shape of the view, `V` edges.
    """

    matrix: FloatArray
    size: tuple[int, ...]

    @property
    def steps(self) -> FloatArray:
        """Source voxels between neighbouring grid points along each source axis, `(S,)`."""
        return np.asarray(np.linalg.norm(self.matrix[:, :-1], axis=1))

    def is_axis_aligned(self) -> bool:
        """Whether every grid axis runs along one source axis of its own."""
        hits = np.abs(self.matrix[:, :-1]) > 1e-12
        return bool(hits.sum(0).max() <= 1 and hits.sum(1).max() <= 1)


def box_map(start: npt.ArrayLike, length: npt.ArrayLike, size: tuple[int, ...]) -> FloatArray:
    """Return the map that stretches a box of voxels over a grid, edge to edge.

    Args:
        start: First voxel edge of the box along each axis; voxel `i` reaches from `i` to `i + 1`.
        length: Length of the box in voxels.
        size: Shape of the grid.
    """
    step = np.asarray(length, dtype=np.float64) / np.asarray(size)
    centre = np.asarray(start, dtype=np.float64) + 0.5 * step - 0.5
    return np.column_stack([np.diag(step), centre])


def compose(outer: FloatArray, inner: FloatArray) -> FloatArray:
    """Return the map that applies `inner` first: `outer(inner(x))`."""
    linear = outer[:, :-1] @ inner[:, :-1]
    return np.column_stack([linear, outer[:, :-1] @ inner[:, -1] + outer[:, -1]])


def flip_map(size: tuple[int, ...], axes: npt.NDArray[np.bool_]) -> FloatArray:
    """Return the map that mirrors a grid along the axes marked true."""
    sign = np.where(axes, -1.0, 1.0)
    return np.column_stack([np.diag(sign), np.where(axes, np.asarray(size) - 1.0, 0.0)])


def quarter_turn_map(size: tuple[int, ...], plane: tuple[int, int], turns: int) -> FloatArray:
    """Return the map that turns a grid, square in `plane`, by quarter turns (as `numpy.rot90` does).

    Args:
        size: Shape of the grid.
        plane: The two axes that turn.
        turns: Number of quarter turns.
    """
    first, second = plane
    turn = np.eye(len(size), len(size) + 1)
    one = np.eye(len(size), len(size) + 1)
    one[[first, second]] = 0.0
    one[first, second] = 1.0
    one[second, first], one[second, -1] = -1.0, size[first] - 1.0
    for _ in range(turns % 4):
        turn = compose(turn, one)
    return turn


def slice_map(axis: int, position: float, ndim: int = 3) -> FloatArray:
    """Return the map that lays a 2D grid into a volume, across `axis` at voxel `position`."""
    others = [other for other in range(ndim) if other != axis]
    matrix = np.zeros((ndim, ndim))
    for column, row in enumerate(others):
        matrix[row, column] = 1.0
    matrix[axis, -1] = position
    return matrix
