"""3DINO's and DINOv2's plan: which crops a scan gives at one visit. Torch-free and picklable."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import numpy.typing as npt

from scanlore.corpus.index import Entry
from scanlore.scans.intensity import LinearMap, linear_map
from scanlore.views.masks import sample_masks
from scanlore.views.photometric_draws import WIDTH, draw_photometric
from scanlore.views.randomness import keyed_generator
from scanlore.views.settings import CropSettings, MultiCropSettings
from scanlore.views.view import (
    FloatArray,
    PlannedView,
    View,
    box_map,
    compose,
    flip_map,
    in_plane,
    quarter_turn_map,
    random_slice_map,
)

TRIES = 10


@dataclass(frozen=True)
class MultiCropPolicy:
    """Draws the views of one scan: a pure function of seed, visit and scan.

    Attributes:
        settings: The plan.
        seed: Of the run.
        patch_size: Of the backbone, for the masks.
        outside: Outside the scan its edge is repeated.
        draw_width: Length of a photometric draw.
    """

    settings: MultiCropSettings
    seed: int
    patch_size: int
    outside: None = None
    draw_width: int = WIDTH

    def for_batch(self, number: int) -> MultiCropPolicy:
        """Return the plan of batch `number`, with sizes drawn by their shares: the same on all processes."""
        resolutions = self.settings.resolutions
        if not resolutions:
            return self
        ends = np.cumsum([resolution.share for resolution in resolutions])
        drawn = keyed_generator(self.seed, number, "resolution").random() * ends[-1]
        return replace(self, settings=self.settings.at(resolutions[int(np.searchsorted(ends, drawn, side="right"))]))

    def group_sizes(self) -> dict[str, tuple[int, tuple[int, ...]]]:
        """Return number and shape of the views of each group of one scan."""
        settings = self.settings
        groups = {"global": settings.global_crops, "local": settings.local_crops}
        sizes = {name: (crops.number, (crops.size,) * settings.ndim) for name, crops in groups.items()}
        if settings.gram_size is not None:
            sizes["gram"] = (settings.global_crops.number, (settings.gram_size,) * settings.ndim)
        return sizes

    def scaling(self, entry: Entry) -> LinearMap:
        """Return the intensity map of a scan."""
        return linear_map(self.settings.scaling, entry.stats, self.settings.window)

    def plan(self, entry: Entry, visit: int) -> dict[str, list[PlannedView]]:
        """Draw the views of a scan.

        Args:
            entry: The scan.
            visit: How often the run has come by this scan before.

        Returns:
            The views of each group; `global`, `local` and, where it is asked, `gram`.
        """
        outer = self._slice(entry, visit)
        groups = {
            group: [self._draw(entry, visit, crops, f"{group}{i}", outer) for i in range(crops.number)]
            for group, crops in (("global", self.settings.global_crops), ("local", self.settings.local_crops))
        }
        if self.settings.gram_size is not None:
            groups["gram"] = [self._finer(planned.view, self.settings.gram_size) for planned in groups["global"]]
        return groups

    def masks(self, number: int, rank: int, num_scans: int) -> npt.NDArray[np.bool_]:
        """Draw the masks of the global crops of a batch.

        Args:
            number: Of the batch.
            rank: Of the process it is for.
            num_scans: In the batch.

        Returns:
            `(global crops, patches)`, true where hidden.
        """
        crops = self.settings.global_crops
        rng = keyed_generator(self.seed, number, rank, "masks")
        num_patches = (crops.size // self.patch_size) ** self.settings.ndim
        return sample_masks(rng, crops.number * num_scans, num_patches, self.settings.masks)

    def _slice(self, entry: Entry, visit: int) -> FloatArray | None:
        """For 2D views of a volume: the slice all crops of this visit come from, within the middle four fifths."""
        if self.settings.ndim == len(entry.shape):
            return None
        return random_slice_map(keyed_generator(self.seed, visit, entry.id, "slice"), entry.shape, entry.through_axis)

    def _draw(self, entry: Entry, visit: int, crops: CropSettings, name: str, outer: FloatArray | None) -> PlannedView:
        rng = keyed_generator(self.seed, visit, entry.id, name)
        shape, through = entry.shape, entry.through_axis
        if outer is not None:
            shape, through = in_plane(shape, outer), None
        size = (crops.size,) * self.settings.ndim
        matrix = compose(self._crop(rng, crops, shape, through, size), self._turns(rng, size))
        if outer is not None:
            matrix = compose(outer, matrix)
        draw = draw_photometric(rng, self.settings.photometric, name, self.settings.ndim)
        return PlannedView(View(matrix, size), draw)

    def _finer(self, view: View, edge: int) -> PlannedView:
        """Return what a view shows on a grid of another size, without photometric transforms."""
        size = (edge,) * len(view.size)
        matrix = compose(view.matrix, box_map((0,) * len(size), view.size, size))
        return PlannedView(View(matrix, size), np.full(self.draw_width, np.nan))

    def _crop(
        self,
        rng: np.random.Generator,
        crops: CropSettings,
        shape: tuple[int, ...],
        through: int | None,
        size: tuple[int, ...],
    ) -> FloatArray:
        """Random resized crop: in-plane area and aspect as in 2D, cross-slice length on its own (3DINO, Methods)."""
        length = np.empty(len(shape))
        plane = [axis for axis in range(len(shape)) if axis != through]
        length[plane] = random_rectangle(rng, np.asarray(shape, dtype=float)[plane], crops.area, self.settings.aspect)
        if through is not None:
            length[through] = shape[through] * rng.uniform(*crops.length)
        start = rng.uniform(0, 1, len(shape)) * (np.asarray(shape) - length)
        return box_map(start, length, size)

    def _turns(self, rng: np.random.Generator, size: tuple[int, ...]) -> FloatArray:
        matrix = flip_map(size, rng.random(len(size)) < self.settings.flip)
        for plane in combinations(range(len(size)), 2):
            if rng.random() < self.settings.quarter_turn:
                matrix = compose(matrix, quarter_turn_map(size, plane, int(rng.integers(1, 4))))
        return matrix


def random_rectangle(
    rng: np.random.Generator, shape: FloatArray, area: tuple[float, float], aspect: tuple[float, float]
) -> FloatArray:
    """Draw the edges of a random resized crop of an image.

    Args:
        rng: Source of randomness.
        shape: Edges of the image in voxels.
        area: Share of the image's area, drawn uniformly.
        aspect: Ratio of the edges, drawn log-uniformly.

    Returns:
        The two edges; after ten misses the largest rectangle within the aspect bounds.
    """
    for _ in range(TRIES):
        target = shape.prod() * rng.uniform(*area)
        ratio = np.exp(rng.uniform(*np.log(aspect)))
        edges = np.array([np.sqrt(target / ratio), np.sqrt(target * ratio)])
        if np.all(edges <= shape):
            return edges
    ratio = float(np.clip(shape[1] / shape[0], *aspect))
    short = min(shape[0], shape[1] / ratio)
    return np.array([short, short * ratio])
