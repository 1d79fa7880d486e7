"""Replace voxels that are not numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from scanlore.errors import DataError
from scanlore.scans.scan import Array


def repair_nonfinite(voxels: npt.NDArray[Any]) -> tuple[Array, int]:
    """Replace NaN and infinities by the mean of the finite voxels of their channel.

    3DINO does this for NaN and turns infinities into the largest float; here both are taken as missing.

    Args:
        voxels: `(C, *spatial)`, any dtype; integers are returned as they are.

    Returns:
        The repaired voxels (the same array where nothing was wrong) and how many were replaced.

    Raises:
        DataError: A channel has no finite voxel.
    """
    if voxels.dtype.kind != "f":
        return voxels, 0
    finite = np.isfinite(voxels)
    num_bad = int(finite.size - np.count_nonzero(finite))
    if num_bad == 0:
        return voxels, 0
    repaired = voxels.copy()
    for channel, good in zip(repaired, finite, strict=True):
        if not good.any():
            raise DataError("no voxel is a finite number" + (" in a channel" if len(voxels) > 1 else ""))
        channel[~good] = channel.mean(where=good, dtype=np.float64)
    return repaired, num_bad
