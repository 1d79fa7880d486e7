"""What the [CLS] token of a vision transformer attends to."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def has_attention(backbone: nn.Module) -> bool:
    """Whether a backbone has [CLS] attention; CNNs have none."""
    return hasattr(backbone, "attention")


@torch.inference_mode()
def cls_attention(backbone: nn.Module, views: Tensor, layer: int = -1) -> Tensor:
    """Return how much of its attention each head's [CLS] token gives to every patch.

    That of the last block is what 3DINO shows (Fig. 1c; methods, "Multi-head self-attention"). The weights are those
    of the softmax over all tokens, so that those of the patches sum to 1 less what [CLS] and the registers get.

    Args:
        backbone: A vision transformer.
        views: `(B, C, *spatial)`, already on its device; they pass the network one by one.
        layer: Index of the block; -1 is the last.

    Returns:
        `(B, heads, *grid)` float32.
    """
    network: Any = backbone
    grid = tuple(edge // network.patch_size for edge in views.shape[2:])
    rows: list[Tensor] = []
    for view in views.split(1):
        weights = network.attention(view, layer)[:, :, 0, network.num_prefix :]
        rows.append(weights.float().clone())
    attention: Tensor = torch.cat(rows).unflatten(-1, grid)
    return attention
