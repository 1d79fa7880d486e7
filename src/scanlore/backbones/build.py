"""Building a backbone from its settings."""

from __future__ import annotations

import torch

from scanlore.backbones.resenc import ResEnc
from scanlore.backbones.settings import ResEncSettings, ViTSettings
from scanlore.backbones.vit import ViT


def build_backbone(settings: ViTSettings | ResEncSettings, seed: int | None = None) -> ViT | ResEnc:
    """Build a backbone with fresh weights.

    Args:
        settings: What to build.
        seed: Of the initial weights; `None` draws from torch's own state.
    """
    if seed is None:
        return ResEnc(settings) if isinstance(settings, ResEncSettings) else ViT(settings)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build_backbone(settings)
