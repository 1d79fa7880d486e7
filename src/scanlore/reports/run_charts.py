"""Curves of a run as plain numbers and SVG paths, drawn by the page's template."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Span = tuple[float, float]
Break = tuple[float, str]

NUM_BINS = 240
"""Points of a curve; of more values, a point is the mean of a stretch, with a band from the lowest to the highest."""
MAX_DOTS = 30
"""Curves of up to as many values also show each of them."""
EDGE = 1000
"""Width and height of a chart in its own units."""
NUM_COLOURS = 7
MARGIN = 0.06
MANTISSAS = (1.0, 2.0, 5.0, 10.0)


@dataclass(frozen=True)
class Curve:
    """Values over steps.

    Attributes:
        label: Its name.
        steps: In order.
        values: One for each step, all finite.
    """

    label: str
    steps: Floats
    values: Floats


@dataclass(frozen=True)
class Line:
    """A curve as it is drawn.

    Attributes:
        label: Its name.
        colour: A class of the style sheet.
        last: Its last value, in words.
        path: Of its points, in SVG's words.
        band: Outline of what its values reach; empty where all are drawn.
        dots: Of its values; empty where there are many.
    """

    label: str
    colour: str
    last: str
    path: str
    band: str
    dots: str


@dataclass(frozen=True)
class Chart:
    """Curves over the same steps.

    Attributes:
        title: What is shown.
        note: What is to be known about it.
        lines: The curves.
        levels: Height in [0, 1] and name of each level to compare with.
        x_ticks: Place in [0, 1] and text of the marks below.
        y_ticks: Height in [0, 1] and text of the marks at the side.
        breaks: Place in [0, 1] and name of where a stage starts.
    """

    title: str
    note: str
    lines: tuple[Line, ...]
    levels: tuple[Break, ...]
    x_ticks: tuple[Break, ...]
    y_ticks: tuple[Break, ...]
    breaks: tuple[Break, ...]

    @property
    def text(self) -> str:
        """What the chart says, in words."""
        return f"{self.title}: {', '.join(f'{line.label} {line.last}' for line in self.lines)}"


@dataclass(frozen=True)
class Axes:
    """What a chart's values mean.

    Attributes:
        span: First and last step.
        breaks: Step and name of where a stage starts.
        is_log: Whether heights are logarithms.
        is_robust: Whether the lowest and highest fiftieth of many values may lie outside.
    """

    span: Span
    breaks: tuple[Break, ...] = ()
    is_log: bool = False
    is_robust: bool = False


def curve(label: str, rows: Sequence[Mapping[str, object]], key: str, factor: float = 1.0) -> Curve:
    """Return the finite values of a key over the rows' steps.

    Args:
        label: Its name.
        rows: With `step`, in order.
        key: Of the values; rows without it are left out.
        factor: The values are multiplied by it.
    """
    pairs = [(row["step"], row[key]) for row in rows if is_number(row.get(key))]
    steps, values = np.array(pairs, dtype=np.float64).reshape(-1, 2).T
    return Curve(label, steps, values * factor)


def chart(
    title: str, curves: Sequence[Curve], axes: Axes, note: str = "", levels: Sequence[Break] = ()
) -> Chart | None:
    """Return a chart, `None` where no curve has a value.

    Args:
        title: What is shown.
        curves: Those without values are left out.
        axes: What its values mean.
        note: What is to be known about it.
        levels: Value and name of each level to compare with.
    """
    drawn = [_transformed(one, axes) for one in curves]
    thinned = [(one, original, _thinned(one, axes)) for one, original in zip(drawn, curves, strict=True)]
    thinned = [item for item in thinned if len(item[0].steps)]
    if not thinned:
        return None
    level_values = [(math.log10(value) if axes.is_log else value, name) for value, name in levels]
    low, high = _range([points[2:] for _, _, points in thinned], [value for value, _ in level_values], axes)
    lines = tuple(
        _line(original, f"c{number}" if number < NUM_COLOURS else "rest", points, axes, (low, high))
        for number, (_, original, points) in enumerate(thinned)
    )
    return Chart(
        title=title,
        note=note,
        lines=lines,
        levels=tuple((_place(value, (low, high)), name) for value, name in level_values),
        x_ticks=tuple((_place(tick, axes.span), _short(tick)) for tick in _ticks(*axes.span, 4) if tick == int(tick)),
        y_ticks=_log_ticks(low, high) if axes.is_log else _plain_ticks(low, high),
        breaks=tuple((_place(step, axes.span), name) for step, name in axes.breaks),
    )


def number_text(value: float) -> str:
    """Return a number with four digits."""
    return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.4g}"


def is_number(value: object) -> bool:
    """Return whether a value is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _transformed(one: Curve, axes: Axes) -> Curve:
    if not axes.is_log:
        return one
    is_positive = one.values > 0
    return Curve(one.label, one.steps[is_positive], np.log10(one.values[is_positive]))


def _thinned(one: Curve, axes: Axes) -> tuple[Floats, Floats, Floats, Floats]:
    """Return steps, means, lowest and highest values of the stretches of a curve."""
    if len(one.steps) <= NUM_BINS:
        return one.steps, one.values, one.values, one.values
    edges = np.sort([*np.linspace(*axes.span, NUM_BINS + 1)[1:-1], *(step for step, _ in axes.breaks)])
    starts = np.unique([0, *np.searchsorted(one.steps, edges)])
    starts = starts[starts < len(one.steps)]
    counts = np.diff(starts, append=len(one.steps))
    sums = np.add.reduceat(one.steps, starts), np.add.reduceat(one.values, starts)
    lowest, highest = np.minimum.reduceat(one.values, starts), np.maximum.reduceat(one.values, starts)
    return sums[0] / counts, sums[1] / counts, lowest, highest


def _range(bounds: Sequence[tuple[Floats, ...]], levels: Sequence[float], axes: Axes) -> Span:
    """Return the values at the bottom and the top, from the lowest and highest values of all curves."""
    lowest, highest = (np.concatenate(values) for values in zip(*bounds, strict=True))
    is_cut = axes.is_robust and len(lowest) > 4 * MAX_DOTS
    low = float(np.percentile(lowest, 2) if is_cut else lowest.min())
    high = float(np.percentile(highest, 98) if is_cut else highest.max())
    low, high = min([low, *levels]), max([high, *levels])
    margin = MARGIN * (high - low) or 0.1 * abs(low) or 0.5
    bottom = low - margin
    return (0.0 if low >= 0 > bottom and not axes.is_log else bottom), high + margin


def _line(original: Curve, colour: str, points: tuple[Floats, ...], axes: Axes, heights: Span) -> Line:
    across = EDGE * _places(points[0], axes.span)
    heights_drawn = [EDGE * (1 - _places(values, heights)) for values in points[1:]]
    # Nothing was trained between two stages
    ends = np.searchsorted(points[0], [step for step, _ in axes.breaks])
    parts = zip(*(np.split(values, ends) for values in (across, *heights_drawn)), strict=True)
    path, band, dots = "", "", ""
    is_banded = bool((points[3] > points[2]).any())
    has_dots = len(across) <= MAX_DOTS
    for x, middle, bottom, top in (part for part in parts if len(part[0])):
        path += f"M{_joined(x, middle)}"
        band += f"M{_joined(x, top)}L{_joined(x[::-1], bottom[::-1])}Z" if is_banded else ""
        dots += "".join(f"M{_joined(x[[i]], middle[[i]])}h0" for i in range(len(x))) if has_dots else ""
    return Line(original.label, colour, number_text(float(original.values[-1])), path, band, dots)


def _joined(across: Floats, down: Floats) -> str:
    # Far outside is cut off by the chart all the same, and browsers draw no path of any length
    return "L".join(f"{x:.1f} {y:.1f}" for x, y in zip(across, down.clip(-EDGE, 2 * EDGE), strict=True))


def _places(values: Floats, span: Span) -> Floats:
    return (values - span[0]) / ((span[1] - span[0]) or 1.0)


def _place(value: float, span: Span) -> float:
    return (value - span[0]) / ((span[1] - span[0]) or 1.0)


def _ticks(low: float, high: float, count: int) -> list[float]:
    """Return about `count` round numbers from low to high."""
    if high <= low:
        return [low]
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * mantissa for mantissa in MANTISSAS if power * mantissa >= rough * 0.999)
    return [round(place * step, 12) for place in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _plain_ticks(low: float, high: float) -> tuple[Break, ...]:
    return tuple((_place(tick, (low, high)), _short(tick)) for tick in _ticks(low, high, 4))


def _log_ticks(low: float, high: float) -> tuple[Break, ...]:
    mantissas = (1,) if high - low > 2.5 else (1, 2, 5)
    powers = range(math.floor(low), math.ceil(high) + 1)
    values = [mantissa * 10.0**power for power in powers for mantissa in mantissas]
    places = [(_place(math.log10(value), (low, high)), _short(value)) for value in values]
    return tuple(item for item in places if 0 <= item[0] <= 1)


def _short(value: float) -> str:
    """Return a round number in few letters: `25k`, `0.002`, `1e-05`."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size * (10 if letter == "k" else 1):
            return f"{value / size:g}{letter}"
    return f"{value:g}"
