"""Histograms of spacing, shape, field of view and age, stacked by modality or sex; drawn by the page's template."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from scanlore.corpus.reasons import UNKNOWN
from scanlore.reports.corpus_charts import Bar, Colours, bar
from scanlore.reports.corpus_counts import tally

Floats = npt.NDArray[np.float64]

NUM_BINS = 24
WIDE = 12
"""Values that span more than this factor are shown on a logarithmic axis."""
AXES = {3: ("left to right (x)", "back to front (y)", "foot to head (z)"), 2: ("height", "width")}
QUANTITIES = (("Spacing", "mm"), ("Shape", "voxels"), ("Field of view", "mm"))
OLDEST = "90+"


@dataclass(frozen=True)
class Histogram:
    """A histogram.

    Attributes:
        title: What is counted.
        note: Median and range, in words.
        highest: Rows of the highest column.
        columns: From left to right.
        ticks: Place in [0, 1] and text of the marks below.
        num_unknown: Rows without a value.
    """

    title: str
    note: str
    highest: int
    columns: tuple[Bar, ...]
    ticks: tuple[tuple[float, str], ...]
    num_unknown: int


@dataclass(frozen=True)
class Panel:
    """Histograms side by side on one scale: one for each axis.

    Attributes:
        title: The quantity.
        histograms: One for each axis.
    """

    title: str
    histograms: tuple[Histogram, ...]


def geometry_panels(frame: pl.DataFrame, palette: Colours) -> list[Panel]:
    """Return histograms of spacing, shape and field of view along each axis, of volumes and of images.

    Args:
        frame: From `described`.
        palette: Colours of the modalities.
    """
    panels = []
    for ndim, names in AXES.items():
        rows = frame.filter(pl.col("ndim") == ndim)
        if not rows.height:
            continue
        shape, spacing = (_along_axes(rows, column, ndim) for column in ("scan_shape", "spacing"))
        kinds = rows["modality"].replace_strict({name: place for place, name in enumerate(palette)}).to_numpy()
        noun = "volumes" if ndim == 3 else "images"
        for (quantity, unit), values in zip(QUANTITIES, (spacing, shape, shape * spacing), strict=True):
            unit = "pixels" if ndim == 2 and unit == "voxels" else unit
            edges = bin_edges(values)
            drawn = (_histogram(names[axis], values[:, axis], kinds, edges, unit, palette) for axis in range(ndim))
            panels.append(Panel(f"{quantity} of {noun} ({unit})", tuple(drawn)))
    return panels


def ages(frame: pl.DataFrame, palette: Colours) -> Histogram:
    """Return the scans of each age band by sex (S3D paper, Fig. 2b).

    Args:
        frame: From `described`.
        palette: Colours of the sexes.
    """
    counts: dict[str, dict[str, int]] = {}
    for band, sex, count in tally(frame, "age_band", "sex"):
        counts.setdefault(band, {})[sex] = count
    num_unknown = sum(counts.pop(UNKNOWN, {}).values())
    starts = [_start(band) for band in counts]
    bands = [_band(start) for start in range(min(starts, default=0), max(starts, default=-1) + 1, 5)]
    highest = max((sum(parts.values()) for parts in counts.values()), default=0)
    columns = tuple(bar(f"age {band}", counts.get(band, {}), highest, palette) for band in bands)
    ticks = tuple(((place + 0.5) / len(bands), band) for place, band in enumerate(bands))
    every = -(-len(ticks) // 6)
    return Histogram("Age in years, by sex", "", highest, columns, ticks[::every] if ticks else (), num_unknown)


def bin_edges(values: Floats) -> Floats:
    """Return the edges of about `NUM_BINS` bins that hold 99 % of the values; the end bins take in what lies beyond.

    Args:
        values: Any shape; NaN is left out.

    Returns:
        Rising edges, equally wide or, where the values span more than a factor of `WIDE`, by equal factors; none
        without a value.
    """
    finite = values[np.isfinite(values)]
    if not finite.size:
        return np.empty(0)
    low, high = (float(value) for value in np.percentile(finite, [0.5, 99.5], method="nearest"))
    if low > 0 and high / low > WIDE:
        return np.geomspace(low, high, NUM_BINS + 1)
    step = _nice(max(high - low, abs(high) / 10, 1e-3) / NUM_BINS)
    first, last = math.floor(low / step + 1e-6), math.floor(high / step + 1e-6) + 1
    # Few different values stay narrow columns in the middle
    margin = max(0, NUM_BINS // 2 - (last - first)) // 2
    numbers = np.arange(max(first - margin, min(first, 0)), last + margin + 1, dtype=np.float64)
    return np.asarray(numbers * step, dtype=np.float64)


def _along_axes(rows: pl.DataFrame, column: str, ndim: int) -> Floats:
    """Return the values `(rows, axes)` of a list column; NaN where there are none."""
    axes = [rows[column].list.get(axis, null_on_oob=True).cast(pl.Float64).to_numpy() for axis in range(ndim)]
    return np.stack(axes, axis=1).astype(np.float64)


def _histogram(
    title: str, values: Floats, kinds: npt.NDArray[np.integer], edges: Floats, unit: str, palette: Colours
) -> Histogram:
    """Count one axis; `kinds` holds each row's place in the palette."""
    known = np.isfinite(values)
    finite = values[known]
    if not finite.size:
        return Histogram(title, "", 0, (), (), int((~known).sum()))
    places = np.clip(np.searchsorted(edges, finite * (1 + 1e-9), side="right") - 1, 0, len(edges) - 2)
    num_bins = len(edges) - 1
    cells = np.bincount(kinds[known] * num_bins + places, minlength=len(palette) * num_bins)
    counts = cells.reshape(len(palette), num_bins)
    highest = int(counts.sum(0).max())
    columns = tuple(
        bar(_span(edges, place, finite, unit), dict(zip(palette, column.tolist(), strict=True)), highest, palette)
        for place, column in enumerate(counts.T)
    )
    middle, least, most = (_short(float(value)) for value in np.percentile(finite, [50, 0, 100]))
    note = f"median {middle}, from {least} to {most}" if least != most else f"{middle} throughout"
    return Histogram(title, note, highest, columns, _ticks(edges), int((~known).sum()))


def _span(edges: Floats, place: int, finite: Floats, unit: str) -> str:
    low, high = edges[place], edges[place + 1]
    if place == 0 and finite.min() < low:
        return f"under {_short(high)} {unit}"
    if place == len(edges) - 2 and finite.max() > high:
        return f"{_short(low)} {unit} and more"
    return f"{_short(low)} to {_short(high)} {unit}"


def _ticks(edges: Floats) -> tuple[tuple[float, str], ...]:
    """Return place and text of two to seven round numbers along the axis."""
    low, high = float(edges[0]), float(edges[-1])
    if np.allclose(np.diff(edges), edges[1] - edges[0]):
        step = _nice((high - low) / 4)
        marks = [step * number for number in range(math.ceil(low / step - 1e-6), math.floor(high / step + 1e-6) + 1)]
        return tuple(((mark - low) / (high - low), f"{round(mark, 9):,g}") for mark in marks)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for leading in ((1, 2, 5), (1, 3), (1,)):
        marks = [digit * 10.0**power for power in powers for digit in leading if low <= digit * 10.0**power <= high]
        if len(marks) <= 7:
            break
    return tuple((math.log(mark / low) / math.log(high / low), _short(mark)) for mark in marks)


def _nice(step: float) -> float:
    """Return the next larger of 1, 2, 2.5 and 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= step * (1 - 1e-9))


def _short(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


def _start(band: str) -> int:
    return int(band.rstrip("+").partition("-")[0])


def _band(start: int) -> str:
    return OLDEST if start >= _start(OLDEST) else f"{start}-{start + 4}"
