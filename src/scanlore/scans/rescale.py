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
    if stored.dtype.kind in "iu" and stored.size and float(slope).is_integer() and float(intercept).is_integer():
        ends = [int(end) * int(slope) + int(intercept) for end in (stored.min(), stored.max())]
        for dtype in (np.int16, np.int32):
            # The product must fit as well as the sum, or it would wrap around on the way.
            reach = [*ends, *(end - int(intercept) for end in ends), int(intercept), int(slope)]
            if np.iinfo(dtype).min <= min(reach) and max(reach) <= np.iinfo(dtype).max:
                whole: npt.NDArray[Any] = stored.astype(dtype)
                whole *= dtype(slope)
                whole += dtype(intercept)
                return whole
    scaled = stored.astype(np.float32)
    scaled *= np.float32(slope)
    scaled += np.float32(intercept)
    return scaled
