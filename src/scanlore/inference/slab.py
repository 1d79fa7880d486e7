"""The sum of overlapping windows, held only where windows may still be added."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scanlore.inference.grid import Grid
from scanlore.inference.windows import Span

SMALL_BYTES = 1 << 26
"""Up to this size a slab is kept in float32, larger ones in float16."""
CHUNK_VALUES = 1 << 19
LARGEST = 6e4
"""Logits are clipped here, below the largest float16."""

Labels = npt.NDArray[np.uint8] | npt.NDArray[np.int16]
Lerp = tuple[Tensor, Tensor, Tensor] | None


def slab_axis(grid: tuple[int, ...], patch: tuple[int, ...]) -> int:
    """Return the axis along which a slab of one window's depth is smallest."""
    shares = [min(edge, size) / size for edge, size in zip(patch, grid, strict=True)]
    return shares.index(min(shares))


class Slab:
    """Collects windows of logits in rising order along one axis, and labels every plane that is complete.

    What is summed are differences to the logit of the background: they tell the largest logit as well, take a map less
    and interpolate as the logits do.

    Args:
        grid: Where the windows lie.
        shape: Spatial shape of the scan, on whose voxels the labels are wanted.
        patch: Shape of a window.
        axis: The one along which windows come in rising order.
        labels: Label of each output of the network, background first.
        device: Where to sum.
    """

    def __init__(
        self,
        grid: Grid,
        shape: tuple[int, ...],
        patch: tuple[int, ...],
        axis: int,
        labels: Sequence[int],
        device: torch.device,
    ) -> None:
        self._size, self._axis, self._first, self._next = grid.shape[axis], axis, 0, 0
        self._others = [other for other in range(len(shape)) if other != axis]
        # One plane more than a window: labels between two planes need both
        depth = min(self._size, patch[axis] + 1)
        dims = (depth, len(labels) - 1, *(grid.shape[other] for other in self._others))
        is_small = 4 * int(np.prod(dims)) <= SMALL_BYTES
        self._sums = torch.zeros(dims, dtype=torch.float32 if is_small else torch.float16, device=device)
        self._along = grid.coordinates(axis, shape[axis])
        self._lerps = [_lerp_of(grid.coordinates(other, shape[other]), grid, other, device) for other in self._others]
        self._values = torch.tensor(labels, dtype=torch.uint8 if max(labels) < 256 else torch.int16, device=device)
        self._labels = torch.zeros(shape, dtype=self._values.dtype)

    def add(self, window: tuple[Span, ...], differences: Tensor) -> None:
        """Add a window.

        Args:
            window: Where it lies; not before any added earlier, along the slab's axis.
            differences: `(K - 1, *patch)` float32 logits less that of the background; overwritten.
        """
        self._finish_before(window[self._axis].place.start)
        part = differences[:, *(span.inside for span in window)].clamp_(-LARGEST, LARGEST)
        for axis, span in enumerate(window):
            weights = torch.from_numpy(span.weights).to(part.device)
            part *= weights.reshape([-1 if other == axis else 1 for other in range(len(window))])
        depth = window[self._axis].place
        places = [window[other].place for other in self._others]
        self._sums[depth.start - self._first : depth.stop - self._first, :, *places] += part.movedim(1 + self._axis, 0)

    def finish(self) -> Labels:
        """Label what is left, and return the labels of the whole scan, `shape`, as uint8 or int16."""
        self._finish_before(self._size)
        labels: Labels = self._labels.numpy()
        return labels

    def _finish_before(self, plane: int) -> None:
        """Label all voxels that need no plane from this one on, then make room."""
        stop = len(self._along) if plane == self._size else int(np.searchsorted(self._along, plane - 1, side="right"))
        per_plane = self._labels.numel() // len(self._along) * self._sums.shape[1]
        step = max(1, CHUNK_VALUES // per_plane)
        for first in range(self._next, stop, step):
            self._label(first, min(first + step, stop))
        self._next = max(self._next, stop)
        if plane < self._size and stop < len(self._along):
            self._shift(min(plane, int(self._along[stop])) - self._first)

    def _label(self, first: int, stop: int) -> None:
        values = _lerp(
            self._sums, 0, _lerp_at(self._along[first:stop] - self._first, len(self._sums), self._sums.device)
        )
        for place, lerp in enumerate(self._lerps):
            values = values if lerp is None else _lerp(values, 2 + place, lerp)
        best, index = values.max(1)
        classes = torch.where(best > 0, index + 1, 0)
        self._labels.movedim(self._axis, 0)[first:stop] = self._values[classes].cpu()

    def _shift(self, count: int) -> None:
        """Drop planes at the front; plane by plane, so that nothing is held twice."""
        if count <= 0:
            return
        depth = len(self._sums)
        for plane in range(count, depth):
            self._sums[plane - count] = self._sums[plane]
        self._sums[max(0, depth - count) :] = 0
        self._first += count


def _lerp_of(coordinates: npt.NDArray[np.float64], grid: Grid, axis: int, device: torch.device) -> Lerp:
    """Return the interpolation along an axis; `None` where the grid's points are the scan's voxels."""
    is_same = grid.steps[axis] == 1 and len(coordinates) == grid.shape[axis]
    return None if is_same else _lerp_at(coordinates, grid.shape[axis], device)


def _lerp_at(coordinates: npt.NDArray[np.float64], length: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    lower = coordinates.astype(np.int64)
    weight = torch.from_numpy((coordinates - lower).astype(np.float32)).to(device)
    places = torch.from_numpy(lower).to(device)
    return places, (places + 1).clamp_(max=length - 1), weight


def _lerp(values: Tensor, axis: int, at: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    lower, upper, weight = at
    left = values.index_select(axis, lower).float()
    if not bool(weight.any()):
        return left
    right = values.index_select(axis, upper).float()
    return left.lerp_(
        right, weight.reshape([-1 if other == axis else 1 for other in range(values.ndim)]).expand_as(left)
    )
