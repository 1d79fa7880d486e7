"""Rescale slope and intercept, keeping integers where they stay integers."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from scanlore.scans.scan import Array


def rescale(stored: npt.NDArray[Any], slope: float, intercept: float) -> Array:
    """Return `slope * stored + intercept`.

    Integers stay integers (int16 where all values fit, else int32) when slope and intercept are whole numbers, so that
    CT in Hounsfield units is exact; anything else becomes float32. Slope 1 with intercept 0 returns the array itself.

    Args:
        stored: Numbers as the file stores them, any shape.
        slope: Rescale slope.
        intercept: Rescale intercept.
    """
    if (slope, intercept) == (1, 0):
        return stored
    scaled: npt.NDArray[Any] = stored.astype(rescaled_dtype(stored, slope, intercept))
    _scale(scaled, slope, intercept)
    return scaled


def rescale_in_place(stored: npt.NDArray[Any], slope: float, intercept: float) -> Array:
    """Return what `rescale` does, in the memory of `stored` where a number takes as many bytes as before.

    Args:
        stored: `(N, ...)`, contiguous; overwritten. It is worked on along the first axis.
        slope: Rescale slope.
        intercept: Rescale intercept.
    """
    if (slope, intercept) == (1, 0):
        return stored
    dtype = rescaled_dtype(stored, slope, intercept)
    fits = dtype.itemsize == stored.itemsize
    scaled = stored.view(dtype) if fits else np.empty(stored.shape, dtype)
    for target, numbers in zip(scaled, stored, strict=True):
        target[...] = numbers
        _scale(target, slope, intercept)
    return scaled


def rescaled_dtype(stored: npt.NDArray[Any], slope: float, intercept: float) -> np.dtype[Any]:
    """Return the type that holds the rescaled numbers: int16, int32 or float32, as `rescale` says."""
    if stored.dtype.kind in "iu" and stored.size and float(slope).is_integer() and float(intercept).is_integer():
        ends = [int(end) * int(slope) + int(intercept) for end in (stored.min(), stored.max())]
        for dtype in (np.int16, np.int32):
            # The product must fit as well as the sum, or it would wrap around on the way.
            reach = [*ends, *(end - int(intercept) for end in ends), int(intercept), int(slope)]
            if np.iinfo(dtype).min <= min(reach) and max(reach) <= np.iinfo(dtype).max:
                return np.dtype(dtype)
    return np.dtype(np.float32)


def _scale(numbers: npt.NDArray[Any], slope: float, intercept: float) -> None:
    # A product with 1 changes nothing and takes time
    if slope != 1:
        numbers *= numbers.dtype.type(slope)
    numbers += numbers.dtype.type(intercept)
