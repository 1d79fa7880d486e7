"""Whole-scan intensity statistics and the linear maps that named scaling policies make of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from scanlore.errors import ConfigError, DataError, nearest
from scanlore.registry import SCALINGS

_PERCENTILES = (0.05, 5.0, 95.0, 99.95)
_MAX_BINS = 1 << 20
_CHUNK = 1 << 20
_SMALLEST_RANGE = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class IntensityStats:
    """Statistics of the finite voxels of one channel of a whole scan, in the scan's own units.

    Attributes:
        minimum: Smallest value.
        maximum: Largest value.
        mean: Mean.
        std: Population standard deviation.
        p0_05: 0.05th percentile; all percentiles interpolate linearly between neighbours, as numpy's do.
        p5: 5th percentile.
        p95: 95th percentile.
        p99_95: 99.95th percentile.
    """

    minimum: float
    maximum: float
    mean: float
    std: float
    p0_05: float
    p5: float
    p95: float
    p99_95: float


@dataclass(frozen=True)
class LinearMap:
    """`clip(gain * x + bias, low, high)`.

    Attributes:
        gain: Factor.
        bias: Added after the factor.
        low: Lower bound of the result, `-inf` for none.
        high: Upper bound of the result, `inf` for none.
    """

    gain: float
    bias: float
    low: float
    high: float

    def __call__(self, array: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
        """Map an array of any shape; the dtype stays."""
        mapped: npt.NDArray[Any] = array * self.gain
        mapped += self.bias
        return np.clip(mapped, self.low, self.high, out=mapped)


def intensity_stats(voxels: npt.NDArray[Any]) -> IntensityStats:
    """Compute the exact statistics of one channel.

    Integers of a limited range are counted into a histogram, everything else is partially sorted in one copy.

    Args:
        voxels: One channel, any shape and dtype; NaN and infinities are left out.

    Raises:
        DataError: There is no finite voxel.
    """
    if voxels.size and voxels.dtype in (np.int16, np.uint16):
        return _counted_stats(*_counted_words(voxels))
    if voxels.size and voxels.dtype.kind in "iu":
        lowest, highest = int(voxels.min()), int(voxels.max())
        if highest - lowest < _MAX_BINS:
            return _counted_stats(_counted(voxels, lowest, highest), lowest)
    return _sorted_stats(voxels)


def linear_map(policy: str, stats: IntensityStats, window: tuple[float, float] | None = None) -> LinearMap:
    """Return the map of a scaling policy for one channel.

    `percentile-0.05-99.95` (3DINO), `percentile-5-95`, `window` and `8bit` map their range to [-1, 1] and clip;
    `zscore` (S3D, nnU-Net) gives mean 0 and standard deviation 1 without clipping. A range that is empty gives a
    constant instead of infinities; percentiles that coincide in a scan that is not constant (a small object in an empty
    field of view) give way to minimum and maximum.

    Args:
        policy: One of `SCALINGS`.
        stats: Of the whole scan.
        window: Lower and upper bound in the scan's units; used by `window` alone.

    Raises:
        ConfigError: The policy is unknown, or `window` is missing or empty.
    """
    if policy == "percentile-0.05-99.95":
        return _to_unit(*_range_or_extremes(stats.p0_05, stats.p99_95, stats))
    if policy == "percentile-5-95":
        return _to_unit(*_range_or_extremes(stats.p5, stats.p95, stats))
    if policy == "8bit":
        return _to_unit(0.0, 255.0)
    if policy == "window":
        if window is None or not window[0] < window[1]:
            raise ConfigError(f"scaling 'window' needs two rising bounds, not {window}", fix="for example [-160, 240]")
        return _to_unit(*window)
    if policy == "zscore":
        constant = stats.minimum == stats.maximum or stats.std < _SMALLEST_RANGE
        gain = 0.0 if constant else 1 / stats.std
        return LinearMap(gain, -gain * stats.mean, -np.inf, np.inf)
    raise ConfigError(
        f"unknown scaling {policy!r}{nearest(policy, list(SCALINGS))}", fix=f"one of {', '.join(SCALINGS)}"
    )


def _range_or_extremes(low: float, high: float, stats: IntensityStats) -> tuple[float, float]:
    return (low, high) if high - low > _SMALLEST_RANGE else (stats.minimum, stats.maximum)


def _to_unit(low: float, high: float) -> LinearMap:
    """Map `[low, high]` to [-1, 1] and clip."""
    gain = 2 / (high - low) if high - low > _SMALLEST_RANGE else 0.0
    return LinearMap(gain, -1 - gain * low, -1.0, 1.0)


def _chunks(voxels: npt.NDArray[Any]) -> Iterator[npt.NDArray[Any]]:
    """Yield all voxels in memory order as small 1D arrays, so that temporaries stay small."""
    flags = ["external_loop", "buffered", "zerosize_ok"]
    yield from np.nditer(voxels, flags=flags, order="K", buffersize=_CHUNK)  # type: ignore[call-overload]


def _ranks(count: int) -> list[tuple[int, int, float]]:
    """For each percentile the two neighbouring ranks and the weight of the upper one."""
    positions = [percentile / 100 * (count - 1) for percentile in _PERCENTILES]
    return [(int(p), min(int(p) + 1, count - 1), p - int(p)) for p in positions]


def _between(low: float, high: float, weight: float) -> float:
    """Interpolate so that equal ends give exactly that value."""
    return low + (high - low) * weight


def _counted(voxels: npt.NDArray[Any], lowest: int, highest: int) -> npt.NDArray[np.int64]:
    """Return how often each whole number from `lowest` to `highest` occurs."""
    counts = np.zeros(highest - lowest + 1, np.int64)
    for chunk in _chunks(voxels):
        counts += np.bincount(chunk.astype(np.int64) - lowest, minlength=len(counts))
    return counts


def _counted_words(voxels: npt.NDArray[Any]) -> tuple[npt.NDArray[np.int64], int]:
    """Return how often each number of 16 bits occurs, from the smallest to the largest there is, and the smallest."""
    counts = np.zeros(1 << 16, np.int64)
    for chunk in _chunks(voxels.view(np.uint16)):
        counts += np.bincount(chunk, minlength=len(counts))
    first = 0
    if voxels.dtype == np.int16:  # negative numbers are the upper half
        counts, first = np.roll(counts, 1 << 15), -(1 << 15)
    found = np.flatnonzero(counts)
    return counts[found[0] : found[-1] + 1], first + int(found[0])


def _counted_stats(counts: npt.NDArray[np.int64], lowest: int) -> IntensityStats:
    size, highest = int(counts.sum()), lowest + len(counts) - 1
    values = np.arange(len(counts), dtype=np.float64) + lowest
    cumulated = np.cumsum(counts)
    mean = float(counts @ values / size)
    std = float(np.sqrt(counts @ (values - mean) ** 2 / size))

    def at_rank(rank: int) -> float:
        return float(values[np.searchsorted(cumulated, rank, side="right")])

    percentiles = [_between(at_rank(a), at_rank(b), weight) for a, b, weight in _ranks(size)]
    return IntensityStats(float(lowest), float(highest), mean, std, *percentiles)


def _sorted_stats(voxels: npt.NDArray[Any]) -> IntensityStats:
    values = voxels.flatten(order="K")  # memory order: several times faster than masking a reoriented view
    finite = np.isfinite(values)
    if not finite.all():
        values = values[finite]
    if values.size == 0:
        raise DataError("no voxel is a finite number")
    ranks = _ranks(values.size)
    mean = float(values.mean(dtype=np.float64))
    squares = sum(float(np.square(chunk.astype(np.float64) - mean).sum()) for chunk in _chunks(values))
    values.partition(sorted({0, values.size - 1, *(rank for a, b, _ in ranks for rank in (a, b))}))
    percentiles = [_between(float(values[a]), float(values[b]), weight) for a, b, weight in ranks]
    return IntensityStats(
        float(values[0]), float(values[-1]), mean, float(np.sqrt(squares / values.size)), *percentiles
    )
