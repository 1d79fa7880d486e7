"""Figures as PNG bytes, drawn without any global plotting state."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scanlore.reports.pca import principal_components

Floats = npt.NDArray[np.floating]
Row = Mapping[str, object]

DPI = 120
# Okabe and Ito's colours, told apart by colour-blind readers too.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#4d4d4d", "#b8a800")
MARKERS = ("o", "s", "^", "D", "v", "P")
# What is at the left, right, top and bottom of the plane across each axis.
EDGES = (("A", "P", "S", "I"), ("R", "L", "S", "I"), ("R", "L", "A", "P"))


def mid_slices(volume: Floats, spacing: Sequence[float] | None = None) -> bytes:
    """Draw the three middle planes of a volume as a radiologist sees them; a 2D image as it is.

    Superior or anterior is up, the patient's right is on the left, and anterior is left in the sagittal plane.

    Args:
        volume: `(X, Y, Z)` in RAS+ order, or `(H, W)`.
        spacing: Voxel size in mm along each axis, for true proportions; `None` for equal ones.

    Returns:
        A PNG.
    """
    planes = _planes(volume)
    figure, axes = _black_panel(1, volume, spacing)
    for ax, plane in zip(axes[0], planes, strict=True):
        _draw_scan(ax, plane, volume)
    _label_edges(axes[0])
    return _png(figure)


def pca_panel(volume: Floats, rgb: Floats, spacing: Sequence[float] | None = None) -> bytes:
    """Draw a scan in the three middle planes, and below each plane its features' colours.

    Args:
        volume: `(X, Y, Z)` in RAS+ order, or `(H, W)`.
        rgb: `(*grid, 3)` in [0, 1] over the same field of view, from `pca_rgb`; each cell is drawn as one block.
        spacing: Voxel size in mm along each axis; `None` for equal ones.

    Returns:
        A PNG.
    """
    figure, axes = _black_panel(2, volume, spacing)
    for ax, below, plane, colours in zip(*axes, _planes(volume), _planes(rgb, volume.ndim), strict=True):
        _draw_scan(ax, plane, volume)
        height, width = plane.shape
        below.imshow(colours, interpolation="nearest", extent=(-0.5, width - 0.5, height - 0.5, -0.5))
        below.set_aspect(ax.get_aspect())
    _label_edges(axes[0])
    return _png(figure)


def loss_curves(rows: Sequence[Row], terms: Sequence[str] = ()) -> bytes:
    """Draw the loss of a run over its steps.

    Args:
        rows: Rows of metrics with `step`, `loss` and any of `terms`; a row without a value leaves that curve out.
        terms: Names of the loss terms to draw as well.

    Returns:
        A PNG.
    """
    figure, ax = _plot(7.2, 3.6)
    for number, name in enumerate(("loss", *terms)):
        points = [(_number(row["step"]), _number(row[name])) for row in rows if row.get(name) is not None]
        steps, values = np.array(points, dtype=float).reshape(-1, 2).T
        ax.plot(
            steps,
            values,
            label=name,
            color=COLOURS[number % len(COLOURS)],
            linewidth=2 if name == "loss" else 1.2,
            marker="o" if len(points) == 1 else None,
        )
    ax.set_xlabel("step")
    ax.set_ylabel("loss")
    if terms:
        ax.legend(frameon=False, fontsize=9)
    return _png(figure)


def score_bars(rows: Sequence[Row], metric: str = "score") -> bytes:
    """Draw one bar for each model with its 95 % confidence interval.

    Args:
        rows: With `model`, `value`, and `low` and `high`, the ends of the interval, where there is one; drawn from top
            to bottom.
        metric: Name and unit for the axis.

    Returns:
        A PNG.
    """
    figure, ax = _plot(7.2, 0.9 + 0.42 * max(len(rows), 1))
    values = [_number(row["value"]) for row in rows]
    ends = [(_number(row.get("low")), _number(row.get("high"))) for row in rows]
    ax.barh(range(len(rows)), values, color=COLOURS[0], height=0.62)
    for place, (value, (low, high)) in enumerate(zip(values, ends, strict=True)):
        if math.isfinite(low) and math.isfinite(high):
            ax.plot([low, high], [place, place], color="black", linewidth=1.6, marker="|", markersize=8)
        text = f"{value:.3f}" if math.isfinite(value) else "missing"
        ax.annotate(text, (np.nanmax([value, high, 0]), place), (6, 0), textcoords="offset points", va="center")
    ax.set_yticks(range(len(rows)), [str(row["model"]) for row in rows])
    ax.set_ylim(max(len(rows), 1) - 0.5, -0.5)
    ax.margins(x=0.15)
    ax.grid(axis="y", visible=False)
    ax.set_xlabel(f"{metric}, 95 % confidence interval")
    return _png(figure)


def embedding_scatter(matrix: Floats, labels: Sequence[object]) -> bytes:
    """Draw embeddings on their first two principal components, coloured by label.

    Args:
        matrix: `(N, D)`.
        labels: The N labels.

    Returns:
        A PNG.
    """
    places, shares = principal_components(matrix, 2)
    figure, ax = _plot(5.6, 4.6)
    names = np.array([str(label) for label in labels])
    for number, name in enumerate(sorted(set(names.tolist()))):
        colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
        chosen = places[names == name]
        ax.scatter(chosen[:, 0], chosen[:, 1], s=28, c=colour, marker=marker, alpha=0.8, linewidths=0, label=name)
    ax.set_xlabel(f"component 1 ({shares[0]:.0%} of variance)")
    ax.set_ylabel(f"component 2 ({shares[1]:.0%})")
    ax.legend(frameon=False, fontsize=9)
    return _png(figure)


def _planes(array: Floats, ndim: int | None = None) -> list[Floats]:
    """The middle plane across each axis, rows from the top and columns from the left of the picture."""
    ndim = ndim or array.ndim
    if ndim == 2:
        return [array]
    middles = [np.take(array, array.shape[axis] // 2, axis) for axis in range(ndim)]
    return [np.swapaxes(plane, 0, 1)[::-1, ::-1] for plane in middles]


def _black_panel(
    num_rows: int, volume: Floats, spacing: Sequence[float] | None
) -> tuple[Figure, npt.NDArray[np.object_]]:
    """Axes in true proportions, one column a plane, without frames on black."""
    size = np.array(volume.shape) * np.array(spacing or [1.0] * volume.ndim)
    # Width and height in mm of each column's plane.
    widths, heights = (size[[1]], size[[0]]) if volume.ndim == 2 else (size[[1, 0, 0]], size[[2, 2, 1]])
    inches = (9.0 if volume.ndim == 3 else 4.0) / widths.sum()
    figure = Figure((widths.sum() * inches, num_rows * heights.max() * inches), facecolor="black", layout="constrained")
    axes = figure.subplots(num_rows, len(widths), squeeze=False, width_ratios=widths)
    for ax, width, height in zip(axes.T, widths, heights, strict=True):
        for one in ax:
            one.set_axis_off()
            one.set_box_aspect(height / width)
            one.set_aspect("auto")
    return figure, axes


def _draw_scan(ax: Axes, plane: Floats, volume: Floats) -> None:
    low, high = np.percentile(volume, [0.5, 99.8])
    ax.imshow(plane, cmap="gray", vmin=low, vmax=max(high, low + 1e-6), interpolation="nearest", aspect="auto")


def _label_edges(axes: npt.NDArray[np.object_]) -> None:
    if len(axes) != len(EDGES):
        return
    for ax, letters in zip(axes, EDGES, strict=True):
        for letter, x, y in zip(letters, (0.03, 0.97, 0.5, 0.5), (0.5, 0.5, 0.96, 0.04), strict=True):
            ax.text(x, y, letter, color="#ffd34d", fontsize=9, ha="center", va="center", transform=ax.transAxes)


def _plot(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure((width, height), facecolor="white", layout="constrained")
    ax = figure.subplots()
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(color="#e3e3e3", linewidth=0.8)
    ax.set_axisbelow(True)
    return figure, ax


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float | np.number) else math.nan


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    return buffer.getvalue()
