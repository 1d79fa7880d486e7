"""What every backbone gives to those who use features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from scanlore.errors import DataError


@dataclass(frozen=True)
class Features:
    """Features of a batch of views at one or more depths, shallow to deep.

    Attributes:
        embeddings: One `(B, D)` tensor per asked layer: the [CLS] token of a ViT, the pooled map of a CNN.
        maps: One `(B, D_i, *grid_i)` tensor per asked layer: patch tokens on their grid, or a CNN's pyramid, fine to
            coarse.
        norm: The norm that was applied to all of them: `"final"` (the network's last LayerNorm) or `"none"`.
    """

    embeddings: list[Tensor]
    maps: list[Tensor]
    norm: str

    @property
    def pooled(self) -> Tensor:
        """Mean over the grid of the deepest map, `(B, D)`."""
        return self.maps[-1].flatten(2).mean(-1)


@runtime_checkable
class Backbone(Protocol):
    """The contract of a backbone for its users; held by the tests for every registered name.

    Attributes:
        ndim: 2 or 3 spatial axes.
        in_channels: Channels of the input.
        patch_size: Voxels per token edge; the total stride for a CNN.
        min_size: Smallest input edge that works in training mode.
        embed_dim: Width of `Features.embeddings`.
        map_dims: Width of each map of the default layers.
        map_strides: Input voxels per grid cell of each map of the default layers.
        num_layers: How many layers can be asked for.
    """

    ndim: int
    in_channels: int
    patch_size: int
    min_size: int
    embed_dim: int
    map_dims: tuple[int, ...]
    map_strides: tuple[int, ...]
    num_layers: int

    def forward_features(self, x: Tensor, layers: list[int] | int | None = None) -> Features:
        """Compute features.

        Args:
            x: `(B, C, *spatial)`, every spatial edge a multiple of `patch_size`.
            layers: Indices of layers (0 is the shallowest), or the number of last layers; `None` for the last alone.
        """
        ...

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Parameters and buffers by name."""
        ...


def layer_indices(asked: list[int] | int, count: int) -> list[int]:
    """Return the indices of layers, shallow to deep.

    Args:
        asked: Indices, or the number of last layers.
        count: Layers there are.

    Raises:
        DataError: There is no such layer.
    """
    wanted = list(range(count - asked, count)) if isinstance(asked, int) else asked
    if not wanted or min(wanted) < 0 or max(wanted) >= count:
        raise DataError(f"layers {asked} of a network that has {count}")
    return sorted(wanted)
