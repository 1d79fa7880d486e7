"""Which patches or blocks of a view are hidden."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from scanlore.views.settings import MaskSettings


def sample_masks(
    rng: np.random.Generator, num_crops: int, num_patches: int, settings: MaskSettings
) -> npt.NDArray[np.bool_]:
    """Draw which patches of which global crops are hidden: uniformly random ones, not blocks (3DINO, Methods).

    The masked crops draw their ratios each from a stratum of its own, so that every batch spans the whole range.

    Args:
        rng: Of this batch.
        num_crops: Global crops in the batch.
        num_patches: Patches of one crop.
        settings: Share of masked crops and range of ratios.

    Returns:
        `(num_crops, num_patches)`, true where hidden.
    """
    masks = np.zeros((num_crops, num_patches), dtype=bool)
    num_masked = int(num_crops * settings.share)
    bounds = np.linspace(*settings.ratio, num_masked + 1)
    rows = rng.permutation(num_crops)[:num_masked]
    for row, low, high in zip(rows, bounds, bounds[1:], strict=False):
        count = max(1, int(num_patches * rng.uniform(low, high)))
        masks[row, rng.permutation(num_patches)[:count]] = True
    return masks


def sample_block_masks(
    rng: np.random.Generator, num_views: int, num_blocks: int, ratio: tuple[float, float]
) -> npt.NDArray[np.bool_]:
    """Draw which blocks of every view are hidden; ends of equal ratio give static masking (S3D, section 3.1).

    Args:
        rng: Of this batch.
        num_views: Views in the batch.
        num_blocks: Blocks of one view, at least 2.
        ratio: Smallest and largest share of hidden blocks; each view draws its own.

    Returns:
        `(num_views, num_blocks)`, true where hidden: at least one block of every view, and never all.
    """
    masks = np.zeros((num_views, num_blocks), dtype=bool)
    for row in masks:
        count = min(max(1, int(num_blocks * rng.uniform(*ratio))), num_blocks - 1)
        row[rng.permutation(num_blocks)[:count]] = True
    return masks
