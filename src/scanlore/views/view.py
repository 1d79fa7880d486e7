"""A view: an affine map from its own grid to the voxels of a scan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

N = TypeVar("N", int, float)
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


@dataclass(frozen=True)
class PlannedView:
    """A view and the photometric draw that belongs to it: a row of numbers, empty where there is none."""

    view: View
    draw: FloatArray


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


def rotation_matrix(angles: npt.ArrayLike) -> FloatArray:
    """Return the rotation by one angle (2D) or by three about the axes, the last one first (3D).

    Args:
        angles: In radians, one or three.
    """
    radians = np.asarray(angles, dtype=np.float64).reshape(-1)
    matrix = np.eye(2 if len(radians) == 1 else 3)
    for axis, (sine, cosine) in enumerate(zip(np.sin(radians), np.cos(radians), strict=True)):
        first, second = (0, 1) if len(radians) == 1 else ((axis + 1) % 3, (axis + 2) % 3)
        turn = np.eye(len(matrix))
        turn[[first, second], [first, second]] = cosine
        turn[first, second], turn[second, first] = -sine, sine
        matrix = matrix @ turn
    return matrix


def centred_map(linear: npt.ArrayLike, size: tuple[int, ...], centre: npt.ArrayLike) -> FloatArray:
    """Return the map that lays the middle of a grid onto a place in the source.

    Args:
        linear: `(S, V)`, from steps of the grid to source voxels.
        size: Shape of the grid.
        centre: `(S,)` source voxel index under the middle of the grid.
    """
    columns = np.asarray(linear, dtype=np.float64)
    middle = (np.asarray(size) - 1) / 2
    return np.column_stack([columns, np.asarray(centre) - columns @ middle])


def slice_map(axis: int, position: float, ndim: int = 3) -> FloatArray:
    """Return the map that lays a 2D grid into a volume, across `axis` at voxel `position`."""
    others = [other for other in range(ndim) if other != axis]
    matrix = np.zeros((ndim, ndim))
    for column, row in enumerate(others):
        matrix[row, column] = 1.0
    matrix[axis, -1] = position
    return matrix


def random_slice_map(rng: np.random.Generator, shape: tuple[int, ...], through_axis: int | None) -> FloatArray:
    """Return the map of a random slice of a volume, within the middle four fifths.

    Args:
        rng: Source of randomness.
        shape: Of the volume.
        through_axis: Axis across the slices; `None` takes the last.
    """
    axis = through_axis if through_axis is not None else len(shape) - 1
    return slice_map(axis, float(np.floor(shape[axis] * rng.uniform(0.1, 0.9))), len(shape))


def in_plane(values: tuple[N, ...], slice_: FloatArray) -> tuple[N, ...]:
    """Return the values of the axes that a slice runs along, in order.

    Args:
        values: One per axis of the volume.
        slice_: From `slice_map`.
    """
    across = int(np.argmax(np.all(slice_[:, :-1] == 0, axis=1)))
    return values[:across] + values[across + 1 :]
