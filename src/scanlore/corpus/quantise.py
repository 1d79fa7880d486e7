"""Voxels as int16 with a slope and an intercept."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scanlore.scans.intensity import IntensityStats

INT16 = np.iinfo(np.int16)


@dataclass(frozen=True)
class Quantiser:
    """What turns the intensities of one channel into int16: `(clip(x, low, high) - intercept) / slope`, rounded.

    Attributes:
        low: Smallest intensity kept.
        high: Largest intensity kept.
        slope: Intensity between neighbouring numbers; 1 with intercept 0 where the numbers are the intensities.
        intercept: Intensity of the number 0.
    """

    low: float
    high: float
    slope: float
    intercept: float

    def __call__(self, voxels: npt.NDArray[np.generic]) -> npt.NDArray[np.int16]:
        """Return an array of at least one axis as int16: itself where it is that already."""
        if (self.slope, self.intercept) == (1.0, 0.0):
            return voxels.astype(np.int16, copy=False)
        result = np.empty(voxels.shape, dtype=np.int16)
        for index in range(voxels.shape[0]):  # slab by slab: a float copy of a whole CT would double the memory
            slab = np.clip(voxels[index].astype(np.float64), self.low, self.high)
            result[index] = np.rint((slab - self.intercept) / self.slope)
        return result


def quantiser(voxels: npt.NDArray[np.generic], stats: IntensityStats) -> Quantiser:
    """Return how the voxels of a channel become int16.

    Whole numbers that span less than 65,536 keep their values exactly. Others are spread over the percentiles 0.05 to
    99.95 and half their width on either side, and clipped there, so that one hot voxel does not eat the range.

    Args:
        voxels: One channel, finite.
        stats: Its statistics.
    """
    whole = bool(np.issubdtype(voxels.dtype, np.integer)) or _is_whole(voxels)
    if whole and stats.minimum >= INT16.min and stats.maximum <= INT16.max:
        return Quantiser(stats.minimum, stats.maximum, 1.0, 0.0)
    if whole and stats.maximum - stats.minimum <= INT16.max - INT16.min:
        slope, low, high = 1.0, stats.minimum, stats.maximum
    else:
        margin = (stats.p99_95 - stats.p0_05) / 2
        low = max(stats.minimum, stats.p0_05 - margin)
        high = min(stats.maximum, stats.p99_95 + margin)
        if not low < high:  # a small object in an empty field of view
            low, high = stats.minimum, stats.maximum
        slope = (high - low) / (INT16.max - INT16.min) or 1.0  # a constant needs no step, but never a division by 0
    return Quantiser(low, high, float(slope), float(low - slope * INT16.min))


def quantise(voxels: npt.NDArray[np.generic], stats: IntensityStats) -> tuple[npt.NDArray[np.int16], float, float]:
    """Return int16 voxels and the slope and intercept that give intensities back: `slope * q + intercept`.

    Args:
        voxels: One channel, finite.
        stats: Its statistics; see `quantiser` for what they decide.
    """
    found = quantiser(voxels, stats)
    return found(voxels), found.slope, found.intercept


def _is_whole(voxels: npt.NDArray[np.generic]) -> bool:
    return all(bool(np.all(np.rint(slab) == slab)) for slab in voxels)
