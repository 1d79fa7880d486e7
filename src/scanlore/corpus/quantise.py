"""Voxels as int16 with a slope and an intercept."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from scanlore.scans.intensity import IntensityStats

INT16 = np.iinfo(np.int16)


def quantise(voxels: npt.NDArray[np.generic], stats: IntensityStats) -> tuple[npt.NDArray[np.int16], float, float]:
    """Return int16 voxels and the slope and intercept that give intensities back: `slope * q + intercept`.

    Whole numbers that span less than 65,536 keep their values exactly. Others are spread over the percentiles 0.05 to
    99.95 and half their width on either side, and clipped there, so that one hot voxel does not eat the range.

    Args:
        voxels: One channel, finite.
        stats: Its statistics.
    """
    whole = bool(np.issubdtype(voxels.dtype, np.integer)) or _is_whole(voxels)
    if whole and stats.minimum >= INT16.min and stats.maximum <= INT16.max:
        return voxels.astype(np.int16), 1.0, 0.0
    if whole and stats.maximum - stats.minimum <= INT16.max - INT16.min:
        slope, low, high = 1.0, stats.minimum, stats.maximum
    else:
        margin = (stats.p99_95 - stats.p0_05) / 2
        low = max(stats.minimum, stats.p0_05 - margin)
        high = min(stats.maximum, stats.p99_95 + margin)
        slope = (high - low) / (INT16.max - INT16.min)
    intercept = low - slope * INT16.min
    result = np.empty(voxels.shape, dtype=np.int16)
    for index in range(voxels.shape[0]):  # slab by slab: a float copy of a whole CT would double the memory
        slab = np.clip(voxels[index].astype(np.float64), low, high)
        result[index] = np.rint((slab - intercept) / slope)
    return result, float(slope), float(intercept)


def _is_whole(voxels: npt.NDArray[np.generic]) -> bool:
    return all(bool(np.all(np.rint(slab) == slab)) for slab in voxels)
