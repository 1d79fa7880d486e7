"""MONAI's transforms as users of 3DINO compose them."""

from __future__ import annotations

from pathlib import Path

import monai
import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import (
    Compose,
    OneOf,
    RandAdjustContrast,
    RandFlip,
    RandGaussianNoise,
    RandGaussianSharpen,
    RandGaussianSmooth,
    RandGibbsNoise,
    RandHistogramShift,
    RandRotate90,
    Resize,
    SpatialCrop,
)
from torch import Tensor

from scanlore.views.multicrop import random_rectangle

GROUPS = ((2, 96, (0.48, 1.0), (0.5, 1.0)), (8, 48, (0.16, 0.48), (0.2, 0.5)))
ASPECT = (0.9, 1 / 0.9)


def _turns() -> list[object]:
    flips = [RandFlip(prob=0.3, spatial_axis=axis) for axis in range(3)]
    return flips + [RandRotate90(prob=0.3, max_k=3, spatial_axes=plane) for plane in ((0, 1), (1, 2), (0, 2))]


def _contrast() -> object:
    return OneOf(
        [
            RandAdjustContrast(prob=0.8, gamma=(0.5, 2.0)),
            RandGaussianNoise(prob=0.8, std=0.002),
            RandHistogramShift(prob=0.8, num_control_points=10),
        ]
    )


def _smooth_or_sharpen(prob: float) -> object:
    sigma, low, high = (0.25, 1.5), (0.5, 1.0), 0.5
    smooth = RandGaussianSmooth(prob=prob, sigma_x=sigma, sigma_y=sigma, sigma_z=sigma)
    sharpen = RandGaussianSharpen(
        prob=prob,
        sigma1_x=low,
        sigma1_y=low,
        sigma1_z=low,
        sigma2_x=high,
        sigma2_y=high,
        sigma2_z=high,
        alpha=(10.0, 30.0),
    )
    return OneOf([smooth, sharpen])


class MonaiViews:
    """The ten crops of one scan, from its foreground as float32 in memory.

    Args:
        path: The scan, a NIfTI file.
    """

    def __init__(self, path: Path) -> None:
        voxels = np.asarray(nib.load(path).dataobj, dtype=np.float32)
        low, high = np.percentile(voxels, (0.05, 99.95))
        scaled = np.clip((voxels - low) / (high - low) * 2 - 1, -1, 1)
        box = tuple(slice(int(hits.min()), int(hits.max()) + 1) for hits in np.nonzero(scaled > -1))
        self.plain = torch.from_numpy(np.ascontiguousarray(scaled[box]))[None]
        self.tracked = MetaTensor(self.plain)
        self.resize = {size: Resize((size, size, size), mode="trilinear") for _, size, _, _ in GROUPS}
        self.turn = Compose(_turns())
        smooth = RandGaussianSmooth(prob=0.5, sigma_x=(0.25, 1.5), sigma_y=(0.25, 1.5), sigma_z=(0.25, 1.5))
        gibbs = RandGibbsNoise(prob=0.2, alpha=(0.0, 1.0))
        self.photometric = [
            Compose([_contrast(), _smooth_or_sharpen(1.0)]),
            Compose([_contrast(), _smooth_or_sharpen(0.1), gibbs]),
            *[Compose([_contrast(), smooth])] * 8,
        ]

    def crops(self, seed: int, track_meta: bool) -> tuple[Tensor, Tensor]:
        """Return both groups in float16, without photometric transforms."""
        return _packed(self._views(seed, track_meta))

    def augmented(self, seed: int, track_meta: bool) -> tuple[Tensor, Tensor]:
        """Return both groups in float16, with photometric transforms."""
        views = self._views(seed, track_meta)
        for number, transform in enumerate(self.photometric):
            transform.set_random_state(seed=seed * 10 + number)
        return _packed([transform(view) for transform, view in zip(self.photometric, views, strict=True)])

    def _views(self, seed: int, track_meta: bool) -> list[Tensor]:
        monai.data.set_track_meta(track_meta)
        scan, rng = (self.tracked if track_meta else self.plain), np.random.default_rng(seed)
        self.turn.set_random_state(seed=seed)
        views = []
        for number, size, area, length in GROUPS:
            for _ in range(number):
                start, stop = _box(rng, scan.shape[1:], area, length)
                views.append(self.turn(self.resize[size](SpatialCrop(roi_start=start, roi_end=stop)(scan))))
        return views


def _box(
    rng: np.random.Generator, shape: torch.Size, area: tuple[float, float], length: tuple[float, float]
) -> tuple[list[int], list[int]]:
    in_plane = random_rectangle(rng, np.asarray(shape[:2], dtype=float), area, ASPECT)
    edges = [*np.round(in_plane).astype(int), round(shape[2] * rng.uniform(*length))]
    start = [int(rng.integers(0, whole - edge + 1)) for whole, edge in zip(shape, edges, strict=True)]
    return start, [int(first + edge) for first, edge in zip(start, edges, strict=True)]


def _packed(views: list[Tensor]) -> tuple[Tensor, Tensor]:
    return torch.stack(views[:2]).half(), torch.stack(views[2:]).half()
