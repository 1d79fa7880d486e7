"""A backbone together with the preprocessing it was trained with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from scanlore.backbones.features import Backbone, Features
from scanlore.corpus.levels import build_levels, level_factors
from scanlore.corpus.prepare import foreground_box
from scanlore.corpus.quantise import quantise
from scanlore.corpus.store import Pyramid
from scanlore.errors import DataError, ModelError
from scanlore.modelfolder.preprocessing import Preprocessing
from scanlore.scans.intensity import IntensityStats, intensity_stats, linear_map
from scanlore.scans.read import read_scan
from scanlore.scans.scan import Scan
from scanlore.views.sampler import sample
from scanlore.views.view import View, box_map, centred_map, compose, slice_map


class Model(nn.Module):
    """A model as users have it: scans in, features out.

    Args:
        name: The reference it was asked for by.
        backbone: The network.
        preprocessing: From scan to view.
        facts: What is known about it: `model.json` without what is above.
    """

    def __init__(
        self, name: str, backbone: nn.Module, preprocessing: Preprocessing, facts: dict[str, Any] | None = None
    ) -> None:
        super().__init__()
        self.name, self.preprocessing, self.facts = name, preprocessing, facts or {}
        self.backbone = backbone
        self.eval()

    @property
    def _features(self) -> Backbone:
        backbone: Any = self.backbone
        return backbone  # type: ignore[no-any-return]

    @property
    def num_layers(self) -> int:
        """Layers whose features can be asked for."""
        return self._features.num_layers

    @property
    def num_parameters(self) -> int:
        """Parameters of the backbone."""
        return sum(parameter.numel() for parameter in self.backbone.parameters())

    def forward_features(self, x: Tensor, layers: list[int] | int | None = None) -> Features:
        """Return features of views `(B, C, *spatial)`; see `scanlore.backbones.features.Backbone`."""
        return self._features.forward_features(x, layers)

    def forward(self, x: Tensor) -> Tensor:
        """Return the embeddings of views, `(B, E)`, as `preprocessing.embedding` chooses them."""
        return choose_embedding(self.forward_features(x), self.preprocessing.embedding)

    def views(self, scan: Scan) -> Tensor:
        """Return the views of a scan, `(V, C, *spatial)` float32: one per channel, and per slice for 2D models.

        A colour image is one view for a network that normalises as many colours.

        Args:
            scan: 2D or 3D.

        Raises:
            ModelError: A 3D model is given a 2D image.
        """
        self._check(scan)
        size, rule, outside = self.preprocessing.shape, self.preprocessing.mip_rule, self.preprocessing.outside
        views = []
        for voxels in self._seen_at_once(scan):
            stats = intensity_stats(voxels)
            scaling = linear_map(self.preprocessing.scaling, stats, self.preprocessing.window)
            pyramids = [_pyramid(channel, scan.through_axis, stats) for channel in voxels]
            for matrix in self._channel_maps(scan, voxels, stats):
                view = View(matrix, size)
                views.append(torch.stack([sample(pyramid, view, scaling, rule, outside) for pyramid in pyramids]))
        stacked = torch.stack(views).expand(-1, self.preprocessing.in_channels, *size)
        return normalised(stacked, self.preprocessing)

    def view_affines(self, scan: Scan) -> list[npt.NDArray[np.float64]]:
        """Return, for each view of `views`, the map from its grid to the scan's voxels, `(S, V + 1)`."""
        self._check(scan)
        return [
            matrix
            for voxels in self._seen_at_once(scan)
            for matrix in self._channel_maps(scan, voxels, intensity_stats(voxels))
        ]

    def _seen_at_once(self, scan: Scan) -> list[npt.NDArray[np.generic]]:
        """Return `(C, *spatial)` for each view: the colours of an image together, other channels one by one."""
        facts = self.preprocessing
        if facts.mean is not None and scan.ndim == 2 and scan.num_channels == facts.in_channels:
            return [scan.voxels]
        return [voxels[None] for voxels in scan.voxels]

    def _check(self, scan: Scan) -> None:
        if self.preprocessing.ndim > scan.ndim:
            fix = "use a 2D model"
            shape = " x ".join(str(edge) for edge in scan.shape)
            raise ModelError(f"the model takes volumes, this is a 2D image of {shape}", where=self.name, fix=fix)

    def _channel_maps(
        self, scan: Scan, voxels: npt.NDArray[np.generic], stats: IntensityStats
    ) -> list[npt.NDArray[np.float64]]:
        box = tuple(slice(0, edge) for edge in scan.shape)
        if self.preprocessing.crop == "foreground":
            box = foreground_box(voxels[0] if len(voxels) == 1 else voxels.max(axis=0), stats.p0_05)
        start = np.array([part.start for part in box])
        length = np.array([part.stop - part.start for part in box])
        spacing = None if scan.spacing is None else np.array(scan.spacing)
        if self.preprocessing.ndim == scan.ndim:
            return [grid_map(self.preprocessing, start, length, spacing)]
        axis = scan.through_axis if scan.through_axis is not None else scan.ndim - 1
        plane = [other for other in range(scan.ndim) if other != axis]
        inner = grid_map(self.preprocessing, start[plane], length[plane], None if spacing is None else spacing[plane])
        count = min(self.preprocessing.max_slices, int(length[axis]))
        places = start[axis] + np.floor((np.arange(count) + 0.5) * length[axis] / count)
        return [compose(slice_map(axis, float(place), scan.ndim), inner) for place in places]

    @torch.inference_mode()
    def embed(self, scans: Path | str | Scan | Sequence[Path | str | Scan]) -> npt.NDArray[np.float32]:
        """Embed scans: one row each, the mean over channels and slices.

        Args:
            scans: Files, series folders or scans; or a sequence of them.

        Returns:
            `(N, E)`.

        Raises:
            DataError: There is no scan, or one cannot be read.
            ModelError: A scan is not for this model.
        """
        several = [scans] if isinstance(scans, Path | str | Scan) else list(scans)
        if not several:
            raise DataError("there is no scan to embed", where=self.name)
        device = next((parameter.device for parameter in self.parameters()), torch.device("cpu"))
        rows = []
        for item in several:
            scan = item if isinstance(item, Scan) else read_scan(Path(item))
            rows.append(self(self.views(scan).to(device)).float().mean(0).cpu().numpy())
        return np.stack(rows)


def choose_embedding(features: Features, embedding: str) -> Tensor:
    """Return what represents a view: `cls`, `mean` or `cls+mean`, `(B, E)`."""
    parts = {"cls": features.embeddings[-1], "mean": features.pooled}
    return torch.cat([parts[name] for name in embedding.split("+")], dim=-1)


def normalised(views: Tensor, facts: Preprocessing) -> Tensor:
    """Return views `(V, C, *spatial)` with the mean and deviation of the colours a network was trained on.

    Args:
        views: Scaled; in [-1, 1] where there is anything to do.
        facts: With `mean` and `std`, or without, which returns the views as they are.
    """
    if facts.mean is None or facts.std is None:
        return views
    shape = (-1, *[1] * facts.ndim)
    mean, std = (torch.tensor(values, device=views.device).view(shape) for values in (facts.mean, facts.std))
    return ((views + 1) / 2 - mean) / std


def grid_map(
    facts: Preprocessing,
    start: npt.NDArray[np.integer],
    length: npt.NDArray[np.integer],
    spacing: npt.NDArray[np.float64] | None,
) -> npt.NDArray[np.float64]:
    """Return the map from a view to the box of voxels it shows, `(V, V + 1)`.

    Args:
        facts: How a scan becomes a view.
        start: First voxel of the box along each axis of the view.
        length: Voxels of the box along each axis.
        spacing: mm per voxel along each axis, where known.
    """
    if facts.resize == "stretch":
        return box_map(start, length, facts.shape)
    step = np.ones(facts.ndim)
    if facts.spacing is not None and spacing is not None:
        step = facts.spacing / spacing
    return centred_map(np.diag(step), facts.shape, start + (length - 1) / 2)


def _pyramid(voxels: npt.NDArray[np.generic], through_axis: int | None, stats: IntensityStats) -> Pyramid:
    """Return the levels of a scan in memory, with the values a store would hold."""
    values, slope, intercept = quantise(voxels, stats)
    factors = level_factors(values.shape, through_axis)
    return Pyramid(tuple(factors), tuple(build_levels(values, factors)), slope, intercept)
