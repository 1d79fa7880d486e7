"""Building a backbone from its settings."""

from __future__ import annotations

import torch

from scanlore.backbones.settings import ViTSettings
from scanlore.backbones.vit import ViT


def build_backbone(settings: ViTSettings, seed: int | None = None) -> ViT:
    """Build a backbone with fresh weights.

    Args:
        settings: What to build.
        seed: Of the initial weights; `None` draws from torch's own state.
    """
    if seed is None:
        return ViT(settings)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return ViT(settings)
