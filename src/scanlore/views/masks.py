"""Patch masks of the global crops: uniformly random patches, not blocks (3DINO, Methods)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from scanlore.views.settings import MaskSettings


def sample_masks(
    rng: np.random.Generator, num_crops: int, num_patches: int, settings: MaskSettings
) -> npt.NDArray[np.bool_]:
    """Draw which patches of which crops are hidden.

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
