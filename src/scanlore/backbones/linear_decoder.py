"""Segmentation by linear layers on a frozen backbone: what its features already say about every voxel."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scanlore.backbones.features import layer_indices

LINEAR = {2: "bilinear", 3: "trilinear"}


class TokenHead(nn.Module):
    """Two linear layers on the patch features of several layers of one width (3DINO, "Linear decoder segmentation").

    The first projects the features of each layer, the same for all, with a GELU; the second maps their concatenation to
    classes. The logits of the patches are interpolated to the voxels.
    """

    def __init__(self, dim: int, num_layers: int, num_classes: int, ndim: int) -> None:
        super().__init__()
        conv = nn.Conv3d if ndim == 3 else nn.Conv2d
        self.project, self.classify = conv(dim, dim, 1), conv(num_layers * dim, num_classes, 1)

    def forward(self, maps: list[Tensor], spatial: tuple[int, ...]) -> Tensor:
        """Return logits `(B, K, *spatial)` of maps `(B, D, *grid)`."""
        logits: Tensor = self.classify(torch.cat([F.gelu(self.project(m)) for m in maps], dim=1))
        return F.interpolate(logits, size=spatial, mode=LINEAR[len(spatial)])


class PyramidHead(nn.Module):
    """One linear layer on the whole pyramid of a CNN: logits of every map, interpolated to the voxels and summed."""

    def __init__(self, dims: tuple[int, ...], num_classes: int, ndim: int) -> None:
        super().__init__()
        conv = nn.Conv3d if ndim == 3 else nn.Conv2d
        self.classify = nn.ModuleList(conv(dim, num_classes, 1) for dim in dims)

    def forward(self, maps: list[Tensor], spatial: tuple[int, ...]) -> Tensor:
        """Return logits `(B, K, *spatial)` of maps `(B, D_i, *grid_i)`."""
        mode = LINEAR[len(spatial)]
        logits = [
            F.interpolate(classify(m), size=spatial, mode=mode) for classify, m in zip(self.classify, maps, strict=True)
        ]
        return torch.stack(logits).sum(0)


class LinearDecoder(nn.Module):
    """A frozen backbone and the linear layers that are trained on it, in `head`.

    A ViT gives the patch features of its last layers; a CNN its whole pyramid, whatever `num_layers` says.

    Args:
        backbone: Under the contract `scanlore.backbones.features.Backbone`; its weights are frozen here.
        num_classes: Outputs per voxel.
        num_layers: Last layers of a ViT; four in 3DINO.

    Attributes:
        ndim: Of the backbone, as `in_channels` and `patch_size`.

    Raises:
        DataError: The backbone has fewer layers.
    """

    def __init__(self, backbone: nn.Module, num_classes: int, num_layers: int) -> None:
        super().__init__()
        features: Any = backbone
        self.ndim: int = features.ndim
        self.in_channels: int = features.in_channels
        self.patch_size: int = features.patch_size
        self.backbone = backbone.requires_grad_(False).eval()
        self.head: nn.Module
        if len(features.map_dims) > 1:
            self.layers = list(range(features.num_layers))
            self.head = PyramidHead(features.map_dims, num_classes, self.ndim)
        else:
            self.layers = layer_indices(num_layers, features.num_layers)
            self.head = TokenHead(features.map_dims[0], num_layers, num_classes, self.ndim)

    def train(self, mode: bool = True) -> LinearDecoder:
        """Set the mode of the head; the backbone stays in evaluation mode."""
        super().train(mode)
        self.backbone.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `(B, num_classes, *spatial)` of views `(B, C, *spatial)`."""
        backbone: Any = self.backbone
        with torch.no_grad():
            maps = backbone.forward_features(x, self.layers).maps
        logits: Tensor = self.head(maps, tuple(x.shape[2:]))
        return logits
