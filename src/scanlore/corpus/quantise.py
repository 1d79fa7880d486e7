"""Voxels as 16-bit numbers with a slope and an intercept: int16, or float16 where that would lose voxels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from scanlore.corpus.tiles import c_order
from scanlore.scans.intensity import IntensityStats

INT16 = np.iinfo(np.int16)
SLAB_VOXELS = 1 << 22
WIDEST = 16.0
"""Beyond, a step of int16 over all values is larger than one of float16 at the end of the percentiles."""
LARGEST_FLOAT16 = 32768.0
"""The largest numbers made of intensities; float16 ends at 65,504."""
SMALLEST_BULK = 2.0**-8
"""Half the width of the percentile range is never a smaller number than this: float16 is finest above 2**-14."""
Stored = npt.NDArray[np.int16] | npt.NDArray[np.float16]
Labels = npt.NDArray[np.uint8] | npt.NDArray[np.int16]


@dataclass(frozen=True)
class Quantiser:
    """What turns the intensities of one channel into stored numbers: `(clip(x, low, high) - intercept) / slope`.

    Attributes:
        low: Smallest intensity kept.
        high: Largest intensity kept.
        slope: Intensity between neighbouring int16, a power of two for float16; 1 with intercept 0 where the numbers
            are the intensities.
        intercept: Intensity of the number 0.
        dtype: int16, rounded; or float16, off by at most 2**-11 of the distance from `intercept`.
    """

    low: float
    high: float
    slope: float
    intercept: float
    dtype: type[np.int16] | type[np.float16] = np.int16

    def __call__(self, voxels: npt.NDArray[np.generic]) -> Stored:
        """Return an array of at least one axis as stored numbers: itself where it is those already."""
        if (self.slope, self.intercept) == (1.0, 0.0) and self.dtype == np.int16:
            return voxels.astype(np.int16, copy=False)
        result: npt.NDArray[Any] = np.empty(voxels.shape, dtype=self.dtype)
        rows = max(1, SLAB_VOXELS * voxels.shape[0] // voxels.size)
        for first in range(
            0, voxels.shape[0], rows
        ):  # slab by slab: a float copy of a whole CT would double the memory
            slab = c_order(voxels[first : first + rows]).astype(np.float64)
            np.clip(slab, self.low, self.high, out=slab)
            slab -= self.intercept
            slab /= self.slope
            result[first : first + rows] = np.rint(slab, out=slab) if self.dtype == np.int16 else slab
        return result


def quantiser(voxels: npt.NDArray[np.generic], stats: IntensityStats) -> Quantiser:
    """Return how the voxels of a channel become 16-bit numbers.

    Whole numbers that span less than 65,536 keep their values exactly. Others are spread over int16 from the smallest
    to the largest, off by half a slope, unless they span more than 16 times the percentiles 0.05 to 99.95, as hot spots
    of PET may do. Then float16 is finer for all but a few: around 0, or around the middle of the percentiles where 0 is
    not among them.

    Args:
        voxels: One channel, finite.
        stats: Its statistics.
    """
    whole = bool(np.issubdtype(voxels.dtype, np.integer)) or _is_whole(voxels)
    low, high = stats.minimum, stats.maximum
    if whole and low >= INT16.min and high <= INT16.max:
        return Quantiser(low, high, 1.0, 0.0)
    if whole and high - low <= INT16.max - INT16.min:
        return Quantiser(low, high, 1.0, low - INT16.min)
    bulk = stats.p99_95 - stats.p0_05
    if bulk > 0 and high - low > WIDEST * bulk:  # 0 where a small object lies in an empty field of view
        return _floats(stats, bulk / 2)
    slope = (high - low) / (INT16.max - INT16.min) or 1.0  # a constant needs no step, but never a division by 0
    return Quantiser(low, high, float(slope), float(low - slope * INT16.min))


def quantise(voxels: npt.NDArray[np.generic], stats: IntensityStats) -> tuple[Stored, float, float]:
    """Return int16 or float16 voxels and the slope and intercept that give intensities back: `slope * q + intercept`.

    Args:
        voxels: One channel, finite.
        stats: Its statistics; see `quantiser` for what they decide.
    """
    found = quantiser(voxels, stats)
    return found(voxels), found.slope, found.intercept


def as_labels(voxels: npt.NDArray[np.generic]) -> Labels:
    """Return the labels of a label map, whole numbers from 0 to 32,767, as uint8 where they fit, else as int16."""
    if voxels.dtype == np.uint8 or voxels.max(initial=0) <= np.iinfo(np.uint8).max:
        return voxels.astype(np.uint8, copy=False)
    return voxels.astype(np.int16, copy=False)


def _floats(stats: IntensityStats, half_width: float) -> Quantiser:
    """Spread intensities over float16; only what is millions of times as far out as the percentiles is clipped."""
    centre = 0.0 if stats.p0_05 <= 0 <= stats.p99_95 else (stats.p0_05 + stats.p99_95) / 2
    furthest = max(stats.maximum - centre, centre - stats.minimum)
    exponent = math.ceil(math.log2(furthest / LARGEST_FLOAT16))
    exponent = max(min(exponent, math.floor(math.log2(half_width / SMALLEST_BULK))), -1000)
    slope = math.ldexp(1.0, exponent)
    reach = slope * LARGEST_FLOAT16
    return Quantiser(max(stats.minimum, centre - reach), min(stats.maximum, centre + reach), slope, centre, np.float16)


def _is_whole(voxels: npt.NDArray[Any]) -> bool:
    slowest = int(np.argmax(np.abs(voxels.strides)))  # planes across it lie in memory as they are
    return all(bool(np.all(np.rint(plane) == plane)) for plane in np.moveaxis(voxels, slowest, 0))
