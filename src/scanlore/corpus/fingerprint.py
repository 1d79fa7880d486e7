"""Perceptual fingerprints: 512 bits that stay nearly the same when a scan is converted, resampled or rescaled.

The foreground is cut out, pooled to a small grid, ranked and normalised by its local contrast; the 256 lowest
frequencies of the grid's cosine transform give two bits each: whether the coefficient is above a threshold, and whether
it is above minus the threshold. So one that wavers around 0 changes no bit, and one that changes its sign two. Rank and
local contrast allow intensities to be mapped and clipped; pooling allows voxels of any size; the cut allows background
to be added or taken away. A fingerprint shows no more of a scan than its coarse shape.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.fft import dctn
from scipy.ndimage import gaussian_filter

from scanlore.corpus.tiles import c_order

Doubles = npt.NDArray[np.float64]
Range = tuple[float, float]

NUM_BITS = 512
NEAR = 60
"""Hamming distance up to which two scans count as the same. Of 167 volumes and 600 slices that
`benchmarks/near_duplicates.py` was given, the nearest two different ones lie 67 apart (neighbouring slices of one
patient), T1 and FLAIR of one patient 75, other patients' crops of the same region more; copies that are converted,
resampled and padded less than 45, but for one in fifty."""
# Voxels read, cells to find the foreground in, and cells of the grid, along an axis; by number of axes
MOST_READ, NUM_COARSE, NUM_CELLS = {2: 1024, 3: 128}, {2: 96, 3: 48}, {2: 32, 3: 16}
FOREGROUND, SHARE_OF_SLICE = 0.2, 0.05
DARKEST, SIGMA, FLATTEST = 0.05, 3.0, 0.03
LOWEST_FREQUENCY, DEAD_ZONE = 3.0, 0.4
MOST_PAIRS = 16
_FIRST_WORDS = 4


def fingerprint(voxels: npt.NDArray[Any]) -> str:
    """Return the fingerprint of one channel as 128 hexadecimal digits.

    Reads at most 128 voxels along each axis of a volume, so that a large CT takes milliseconds.

    Args:
        voxels: `(X, Y, Z)` on the RAS+ grid, or `(H, W)`; finite, any intensities and voxel size.
    """
    read = _without_margins(_strided(voxels))
    coarse = _pooled(read, [(0.0, float(edge)) for edge in read.shape], NUM_COARSE[voxels.ndim], enlarge=False)
    scale = [edge / cells for edge, cells in zip(read.shape, coarse.shape, strict=True)]
    box = [(low * step, high * step) for (low, high), step in zip(_foreground(coarse), scale, strict=True)]
    grid = _pooled(read, box, NUM_CELLS[voxels.ndim], enlarge=True)
    bits = _bits(_local_contrast(_ranks(_unit(grid))))
    return np.packbits(bits).tobytes().hex()


def distance(one: str, two: str) -> int:
    """Return the number of bits in which two fingerprints differ, 0 to 512."""
    return (int(one, 16) ^ int(two, 16)).bit_count()


def truncated(one: str) -> str:
    """Return every fourth bit as 32 hexadecimal digits: too few for a picture, enough to find most near-duplicates.

    Two that differ in at most 15 of the 128 bits are of near-duplicates: measured, 99 % of the copies of volumes and
    98 % of those of images do, and none of 58,000 pairs of different scans.
    """
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(one), dtype=np.uint8))
    return np.packbits(bits[::4]).tobytes().hex()


def near_pairs(fingerprints: Sequence[str], max_distance: int = NEAR) -> list[tuple[int, int]]:
    """Return the places of all pairs, the earlier first, that differ in at most `max_distance` bits.

    Exact; of more than 16 near ones before a fingerprint the first 16 are named. 100,000 fingerprints take about 20
    seconds: half of the bits rule nearly all pairs out.

    Args:
        fingerprints: As `fingerprint` returns them.
        max_distance: Largest Hamming distance.
    """
    words = np.frombuffer(bytes.fromhex("".join(fingerprints)), dtype=np.uint64).reshape(-1, NUM_BITS // 64)
    columns = np.ascontiguousarray(words.T)
    pairs: list[tuple[int, int]] = []
    for later in range(1, len(fingerprints)):
        maybe = np.flatnonzero(_differing(columns[:_FIRST_WORDS, :later], words[later, :_FIRST_WORDS]) <= max_distance)
        if maybe.size:
            near = maybe[_differing(columns[:, maybe], words[later]) <= max_distance]
            pairs += [(int(earlier), later) for earlier in near[:MOST_PAIRS]]
    return sorted(pairs)


def _differing(columns: npt.NDArray[np.uint64], word: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint16]:
    total = np.zeros(columns.shape[1], dtype=np.uint16)
    for column, part in zip(columns, word, strict=True):
        total += np.bitwise_count(column ^ part)
    return total


def _strided(voxels: npt.NDArray[Any]) -> Doubles:
    steps = [max(1, math.ceil(edge / MOST_READ[voxels.ndim])) for edge in voxels.shape]
    places = tuple(slice((edge - 1) % step // 2, None, step) for edge, step in zip(voxels.shape, steps, strict=True))
    return c_order(voxels[places]).astype(np.float64)


def _without_margins(voxels: Doubles) -> Doubles:
    """Cut off constant outer slices, such as padding by a value below the background."""
    varied = [np.flatnonzero(voxels.max(axis=others) > voxels.min(axis=others)) for others in _others(voxels.ndim)]
    if not all(slices.size for slices in varied):
        return voxels
    return voxels[tuple(slice(slices[0], slices[-1] + 1) for slices in varied)]


def _others(ndim: int) -> list[tuple[int, ...]]:
    """Return for each axis the others."""
    return [tuple(other for other in range(ndim) if other != axis) for axis in range(ndim)]


def _pooled(voxels: Doubles, box: Sequence[Range], num_cells: int, *, enlarge: bool) -> Doubles:
    """Return the mean of a box in each cell of a grid, parts of voxels weighted by their share."""
    for axis, (low, high) in enumerate(box):
        edge = voxels.shape[axis]
        if enlarge or edge > num_cells:
            weights = _cell_weights(edge, low, high, num_cells)
            voxels = np.moveaxis(np.tensordot(weights, voxels, (1, axis)), 0, axis)
    return voxels


def _cell_weights(edge: int, low: float, high: float, num_cells: int) -> Doubles:
    bounds = np.linspace(low, high, num_cells + 1)
    voxel = np.arange(edge)
    overlap = np.minimum(bounds[1:, None], voxel + 1) - np.maximum(bounds[:-1, None], voxel)
    weights: Doubles = np.clip(overlap, 0, None)
    weights /= weights.sum(1, keepdims=True)
    return weights


def _foreground(coarse: Doubles) -> list[Range]:
    """Return along each axis where the share of bright cells of a slice rises above 5 % of that of the fullest slice.

    Bright is above a fifth of the way from the first percentile to the median of the brighter half.
    """
    low = np.percentile(coarse, 1)
    high = np.median(coarse[coarse >= (low + coarse.max()) / 2])
    bright = coarse > low + FOREGROUND * (high - low)
    return [_extent(bright.mean(axis=others)) for others in _others(coarse.ndim)]


def _extent(profile: Doubles) -> Range:
    """Return where a profile first and last crosses its threshold, to a fraction of a cell; the whole where it is 0."""
    threshold = SHARE_OF_SLICE * profile.max()
    inside = np.flatnonzero(profile >= threshold)
    low = _crossing(profile, inside[0], threshold)
    high = len(profile) - _crossing(profile[::-1], len(profile) - 1 - inside[-1], threshold)
    middle = (low + high) / 2
    half = max((high - low) / 2, 0.5)
    return max(middle - half, 0.0), min(middle + half, float(len(profile)))


def _crossing(profile: Doubles, first: int, threshold: float) -> float:
    if first == 0:
        return 0.0
    before, after = profile[first - 1], profile[first]
    return float(first + 0.5 - (after - threshold) / (after - before))


def _unit(grid: Doubles) -> Doubles:
    low, high = np.percentile(grid, (2, 98))
    if not high > low:
        return np.zeros_like(grid)
    unit: Doubles = np.clip((grid - low) / (high - low), 0, 1)
    return unit


def _ranks(grid: Doubles) -> Doubles:
    """Return the share of cells below each cell, equal ones ranked alike; what is dark is background, all alike."""
    rounded = np.round(np.where(grid < DARKEST, 0, grid), 4)  # sums in another order must not change ranks
    _, place, count = np.unique(rounded, return_inverse=True, return_counts=True)
    ranks: Doubles = ((np.cumsum(count) - (count - 1) / 2) / grid.size)[place].reshape(grid.shape)
    return ranks


def _local_contrast(grid: Doubles) -> Doubles:
    """Return the difference to the surroundings in units of their spread: bright fat must not outshine the brain."""
    contrast = grid - gaussian_filter(grid, SIGMA, mode="nearest")
    spread = np.sqrt(gaussian_filter(contrast**2, SIGMA, mode="nearest"))
    return np.asarray(contrast / (spread + FLATTEST))


def _bits(grid: Doubles) -> npt.NDArray[np.bool_]:
    frequency = np.sqrt(np.square(np.indices(grid.shape, dtype=np.float64)).sum(axis=0)).ravel()
    order = np.argsort(frequency, kind="stable")
    chosen = order[frequency[order] >= LOWEST_FREQUENCY][: NUM_BITS // 2]
    coefficients = dctn(grid, norm="ortho").ravel()[chosen] * np.sqrt(frequency[chosen])
    threshold = max(DEAD_ZONE * float(np.median(np.abs(coefficients))), 1e-6)
    return np.concatenate([coefficients > threshold, coefficients > -threshold])
