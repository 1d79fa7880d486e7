"""Dice and cross-entropy of patches, as nnU-Net weighs them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

SMOOTH = 1e-5


def soft_dice_loss(logits: Tensor, labels: Tensor, ignore: int | None = None) -> Tensor:
    """Return one minus the soft Dice of the foreground classes, the mean over classes and patches.

    Dice is `(2 sum p y + s) / (sum p + sum y + s)` with s = 1e-5, for each patch on its own (nnU-Net; background counts
    neither as a class nor for the mean).

    Args:
        logits: `(B, K, *spatial)`.
        labels: `(B, *spatial)` classes `0 .. K-1`.
        ignore: Label of voxels that count nowhere.
    """
    probabilities = logits.float().softmax(1)[:, 1:]
    known = torch.ones_like(labels, dtype=torch.bool) if ignore is None else labels != ignore
    classes = torch.arange(1, logits.shape[1], device=labels.device).view(1, -1, *(1,) * (labels.ndim - 1))
    target = ((labels[:, None] == classes) & known[:, None]).flatten(2).float()
    predicted = (probabilities * known[:, None]).flatten(2)
    overlap = (predicted * target).sum(-1)
    dice = (2 * overlap + SMOOTH) / (predicted.sum(-1) + target.sum(-1) + SMOOTH)
    return 1 - dice.mean()


def cross_entropy_loss(logits: Tensor, labels: Tensor, ignore: int | None = None) -> Tensor:
    """Return the mean cross-entropy over voxels.

    Args:
        logits: `(B, K, *spatial)`.
        labels: `(B, *spatial)` classes `0 .. K-1`.
        ignore: Label of voxels that count nowhere.
    """
    if ignore is None:
        return F.cross_entropy(logits.float(), labels.long())
    # The mean over no voxel at all is not a number
    summed = F.cross_entropy(logits.float(), labels.long(), ignore_index=ignore, reduction="sum")
    return summed / (labels != ignore).sum().clamp_min(1)
