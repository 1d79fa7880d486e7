"""Learned position embeddings on another grid than they were made for."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from scanlore.backbones.settings import ViTSettings

LINEAR = {2: "bilinear", 3: "trilinear"}


def resize_grid(pos_embed: Tensor, stored: tuple[int, ...], wanted: tuple[int, ...], settings: ViTSettings) -> Tensor:
    """Return a position embedding for another grid; the slot of [CLS] is kept as it is.

    With an offset the sampling grid is that of DINOv2 and 3DINO: scale factors `(wanted + offset) / stored`.

    Args:
        pos_embed: `(1, 1 + N, D)`, the last spatial axis fastest.
        stored: Patches along each axis it was made for.
        wanted: Patches along each axis.
        settings: Whose `pos_interpolation`, `pos_offset` and `pos_antialias` say how.

    Returns:
        `(1, 1 + M, D)`, computed in float32, in the precision of `pos_embed`.
    """
    mode = "bicubic" if settings.pos_interpolation == "cubic" else LINEAR[len(stored)]
    cells = pos_embed[:, 1:].float().unflatten(1, stored).movedim(-1, 1)
    scale = tuple((edge + settings.pos_offset) / old for edge, old in zip(wanted, stored, strict=True))
    to = {"scale_factor": scale} if settings.pos_offset else {"size": wanted}
    resized = F.interpolate(cells, mode=mode, antialias=settings.pos_antialias, **to)
    return torch.cat([pos_embed[:, :1], resized.flatten(2).mT.to(pos_embed.dtype)], dim=1)
