"""Gram anchoring: patches keep the likeness to each other that they had for an earlier teacher (DINOv3, section 4)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def resized(patches_BND: Tensor, grid: tuple[int, ...], target: tuple[int, ...]) -> Tensor:
    """Return patch features on another grid: bicubic for images, trilinear for volumes.

    Args:
        patches_BND: `(B, N, D)` of the patches of `grid`, the last axis fastest.
        grid: Patches along each axis.
        target: The same of the features returned, float32.
    """
    if grid == target:
        return patches_BND.float()
    maps = patches_BND.float().mT.unflatten(-1, grid)
    mode = "bicubic" if len(grid) == 2 else "trilinear"
    return F.interpolate(maps, size=target, mode=mode, align_corners=False).flatten(2).mT


def gram_loss(student_BND: Tensor, teacher_BND: Tensor) -> Tensor:
    """Mean squared difference between the cosines of all pairs of patches of a crop (DINOv3, eq. 2).

    Args:
        student_BND: Patch features of the student.
        teacher_BND: Those of the Gram teacher, on the same grid.
    """
    with torch.autocast(student_BND.device.type, enabled=False):
        student, teacher = (F.normalize(patches.float(), dim=-1) for patches in (student_BND, teacher_BND))
        return F.mse_loss(student @ student.mT, teacher @ teacher.mT)
