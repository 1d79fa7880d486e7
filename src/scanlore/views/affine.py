"""Patches under a random affine map: S3D's plan, and the geometry that training with labels shares. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
import numpy.typing as npt

from scanlore.corpus.index import Entry
from scanlore.scans.intensity import LinearMap, linear_map
from scanlore.views.affine_settings import AffineSettings, GeometrySettings
from scanlore.views.masks import sample_block_masks
from scanlore.views.randomness import factor_around_one, keyed_generator
from scanlore.views.view import (
    FloatArray,
    PlannedView,
    View,
    centred_map,
    compose,
    in_plane,
    random_slice_map,
    rotation_matrix,
)


@dataclass(frozen=True)
class AffinePolicy:
    """Draws one patch of a scan: a pure function of seed, visit and scan.

    Attributes:
        settings: The plan.
        seed: Of the run.
        draw_width: There are no photometric draws.
    """

    settings: AffineSettings
    seed: int
    draw_width: int = 0

    @property
    def outside(self) -> float:
        """Value of views outside their scan."""
        return self.settings.outside

    def for_batch(self, number: int) -> AffinePolicy:
        """Return this plan: it is that of every batch."""
        del number
        return self

    def group_sizes(self) -> dict[str, tuple[int, tuple[int, ...]]]:
        """Return number and shape of the views of one scan; the one group is `views`."""
        return {"views": (1, self.settings.shape)}

    def scaling(self, entry: Entry) -> LinearMap:
        """Return the intensity map of a scan."""
        return linear_map(self.settings.scaling, entry.stats, self.settings.window)

    def plan(self, entry: Entry, visit: int) -> dict[str, list[PlannedView]]:
        """Draw the view of a scan.

        Args:
            entry: The scan.
            visit: How often the run has come by this scan before.

        Returns:
            One view in the group `views`.
        """
        rng = keyed_generator(self.seed, visit, entry.id, "view")
        shape, spacing = entry.shape, entry.spacing
        outer = None
        if len(shape) > self.settings.ndim:
            outer = random_slice_map(rng, shape, entry.through_axis)
            shape, spacing = in_plane(shape, outer), spacing and in_plane(spacing, outer)
        target = None if self.settings.spacing is None else (self.settings.spacing,) * self.settings.ndim
        patch = Patch(self.settings.shape, *grid_steps(target, spacing, self.settings.ndim))
        matrix = patch.map(random_turn(rng, self.settings), patch.random_centre(rng, shape))
        if outer is not None:
            matrix = compose(outer, matrix)
        return {"views": [PlannedView(View(matrix, self.settings.shape), np.empty(0))]}

    def masks(self, number: int, rank: int, num_scans: int) -> npt.NDArray[np.bool_] | None:
        """Draw the masks of a batch.

        Args:
            number: Of the batch.
            rank: Of the process it is for.
            num_scans: In the batch.

        Returns:
            `(num_scans, blocks)`, true where hidden; blocks are in the order of `settings.mask_grid`.
        """
        if self.settings.masks is None:
            return None
        rng = keyed_generator(self.seed, number, rank, "masks")
        return sample_block_masks(rng, num_scans, prod(self.settings.mask_grid), self.settings.masks.ratio)


@dataclass(frozen=True)
class Patch:
    """A grid with steps in mm on a scan with voxels in mm.

    Attributes:
        size: Shape of the grid.
        step: `(V,)` mm between its points.
        voxel: `(V,)` mm between the scan's voxels.
    """

    size: tuple[int, ...]
    step: FloatArray
    voxel: FloatArray

    @property
    def extent(self) -> FloatArray:
        """Edges of the untouched patch in voxels of the scan."""
        return np.asarray(self.size) * self.step / self.voxel

    def map(self, turn: FloatArray, centre: FloatArray) -> FloatArray:
        """Return the map of the patch, turned in mm about its middle, which lies at voxel `centre`."""
        return centred_map(turn * self.step / self.voxel[:, None], self.size, centre)

    def random_centre(self, rng: np.random.Generator, shape: tuple[int, ...]) -> FloatArray:
        """Draw the voxel under the middle of the patch.

        The patch lies inside the scan, or reaches beyond it evenly on both sides where it is the larger (as nnU-Net's).
        It starts at a whole voxel, so that a patch that is neither turned nor resampled is not interpolated.
        """
        room = np.asarray(shape) - self.extent
        inside = np.floor(rng.random(len(shape)) * (np.floor(room) + 1))
        return np.where(room > 0, inside, np.floor(room / 2)) + self.extent / 2 - 0.5

    def centre_near(self, voxel: npt.NDArray[np.int64], shape: tuple[int, ...]) -> FloatArray:
        """Return the place for the middle of the patch that is nearest to a voxel and wastes nothing.

        The patch stays inside the scan, or the scan inside the patch where it is the larger (nnU-Net keeps the lower
        edge alone). It starts at a whole voxel.
        """
        room = np.asarray(shape) - self.extent
        start = np.floor(voxel - self.extent / 2 + 0.5)
        start = np.clip(start, np.ceil(np.minimum(room, 0)), np.floor(np.maximum(room, 0)))
        return np.asarray(start + self.extent / 2 - 0.5)


def grid_steps(
    target: tuple[float, ...] | None, spacing: tuple[float, ...] | None, ndim: int
) -> tuple[FloatArray, FloatArray]:
    """Return the steps of a grid and of a scan's voxels, both in mm.

    Args:
        target: mm between the points of the grid; `None` takes the scan's own.
        spacing: mm between the voxels of the scan; `None`, where it is not known, takes them for the grid's.
        ndim: Axes of the grid.
    """
    voxel = np.asarray(spacing or target or (1.0,) * ndim, dtype=np.float64)
    return np.asarray(target or voxel, dtype=np.float64), voxel


def random_turn(rng: np.random.Generator, settings: GeometrySettings) -> FloatArray:
    """Draw rotation, scale and mirroring as one `(V, V)` matrix; without a rotation it is exactly diagonal."""
    num_angles = 3 if settings.ndim == 3 else 1
    angles = np.zeros(num_angles)
    if rng.random() < settings.rotation_probability:
        angles = np.deg2rad(rng.uniform(-settings.rotation_degrees, settings.rotation_degrees, num_angles))
    factor = factor_around_one(rng, settings.scale) if rng.random() < settings.scale_probability else 1.0
    signs = np.where(rng.random(settings.ndim) < settings.flip, -1.0, 1.0)
    return rotation_matrix(angles) * (factor * signs)
