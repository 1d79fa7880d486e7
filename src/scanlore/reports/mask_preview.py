"""A picture of a mask on its scan, to see at a glance whether a prediction makes sense."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from scanlore.reports.figures import COLOURS, EDGES

Floats = npt.NDArray[np.floating]
Planes = list[npt.NDArray[Any]]
DPI = 100
WIDTH, TALLEST, NARROWEST = 9.0, 4.5, 3.5
"""Inches: of all panels together, of the tallest one, and of the picture at least."""
GAP, FOOT = 0.06, 0.34
"""Inches: between panels, and of the line of names."""
OPACITY = 0.5
MAX_NAMES = 6
LETTER_PLACES = ((0.03, 0.5), (0.97, 0.5), (0.5, 0.96), (0.5, 0.04))


def mask_preview(
    voxels: npt.NDArray[np.generic],
    labels: npt.NDArray[np.integer],
    names: Mapping[int, str],
    spacing: Sequence[float] | None = None,
) -> bytes:
    """Draw a scan, and below it the same with its labels in colours.

    Of a volume the plane across each axis that holds most labelled voxels is drawn, as a radiologist sees it: superior
    or anterior is up, the patient's right is on the left, and anterior is left in the sagittal plane. An image is drawn
    as it is.

    Args:
        voxels: `(X, Y, Z)` in RAS+ order, or `(H, W)`; one channel.
        labels: Of the same shape; 0 is background.
        names: Name of each label.
        spacing: Voxel size in mm along each axis, for true proportions; `None` for equal ones.

    Returns:
        A PNG.
    """
    places = _fullest(labels)
    scans, masks = _planes(voxels, places), _planes(labels, places)
    size = np.array(labels.shape) * np.array(spacing or [1.0] * labels.ndim)
    # Width and height in mm of each plane
    widths, heights = (size[[1]], size[[0]]) if labels.ndim == 2 else (size[[1, 0, 0]], size[[2, 2, 1]])
    figure, rows = _panels(widths, heights)
    low, high = np.percentile(np.concatenate([plane.ravel() for plane in scans]).astype(np.float32), [0.5, 99.8])
    for column, (plane, mask) in enumerate(zip(scans, masks, strict=True)):
        grey = np.clip((plane.astype(np.float32) - low) / max(high - low, 1e-6), 0, 1)[..., None].repeat(3, -1)
        for ax, picture in zip(rows, (grey, _coloured(grey, mask, names)), strict=True):
            ax[column].imshow(picture, interpolation="nearest", aspect="auto")
    if labels.ndim == 3:
        _name_edges(rows[0])
    _name_labels(figure, masks, names)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    return buffer.getvalue()


def _fullest(labels: npt.NDArray[np.integer]) -> list[int]:
    """Return for each axis the plane with most labelled voxels; the middle one where there are none."""
    if labels.ndim == 2:
        return []
    across = np.zeros(labels.shape[0], np.int64)
    along = np.zeros(labels.shape[1:], np.int64)
    for index, plane in enumerate(labels):  # plane by plane: no second array of the scan's size
        is_labelled = plane > 0
        across[index] = is_labelled.sum()
        along += is_labelled
    counts = (across, along.sum(1), along.sum(0))
    return [int(count.argmax()) if count.any() else len(count) // 2 for count in counts]


def _planes(array: npt.NDArray[np.generic], places: list[int]) -> Planes:
    """Return the plane across each axis, rows from the top and columns from the left of the picture."""
    if not places:
        return [array]
    return [np.take(array, place, axis).T[::-1, ::-1] for axis, place in enumerate(places)]


def _coloured(grey: Floats, mask: npt.NDArray[Any], names: Mapping[int, str]) -> Floats:
    picture = grey.copy()
    for value, colour in _colours(names).items():
        is_class = mask == value
        picture[is_class] = (1 - OPACITY) * grey[is_class] + OPACITY * np.array(to_rgb(colour))
    return picture


def _colours(names: Mapping[int, str]) -> dict[int, str]:
    """Return the colour of each label; orange and light blue stand out from grey most, so they come first."""
    order = [COLOURS[place] for place in (1, 5, 2, 3, 4, 0, 7)]
    return dict(zip((value for value in names if value), cycle(order), strict=False))


def _panels(widths: Floats, heights: Floats) -> tuple[Figure, list[list[Axes]]]:
    """Return two rows of axes in true proportions on black; placed by hand: automatic layout takes longest of all."""
    scale = min(WIDTH / widths.sum(), TALLEST / heights.max())
    wide, high, row = widths * scale, heights * scale, float(heights.max()) * scale
    whole = max(float(wide.sum()) + GAP * (len(wide) + 1), NARROWEST), 2 * row + 3 * GAP + FOOT
    figure = Figure(whole, facecolor="black")
    FigureCanvasAgg(figure)
    lefts = GAP * np.arange(1, len(wide) + 1) + np.cumsum(wide) - wide
    rows = []
    for bottom in (FOOT + row + 2 * GAP, FOOT + GAP):
        boxes = np.column_stack([lefts, bottom + (row - high) / 2, wide, high]) / np.array(whole * 2)
        rows.append([figure.add_axes((box[0], box[1], box[2], box[3])) for box in boxes.tolist()])
        for ax in rows[-1]:
            ax.set_axis_off()
    return figure, rows


def _name_edges(axes: Sequence[Axes]) -> None:
    for ax, letters in zip(axes, EDGES, strict=True):
        for letter, (x, y) in zip(letters, LETTER_PLACES, strict=True):
            ax.text(x, y, letter, color="#ffd34d", fontsize=9, ha="center", va="center", transform=ax.transAxes)


def _name_labels(figure: Figure, masks: Planes, names: Mapping[int, str]) -> None:
    """Name the labels that are drawn, the largest first."""
    counts = {value: sum(int((mask == value).sum()) for mask in masks) for value in names if value}
    drawn = sorted((value for value, count in counts.items() if count), key=lambda value: -counts[value])
    colours = _colours(names)
    # The largest are named where there is no room for all, in the order of the label map
    handles = [Patch(color=colours[value], label=names[value]) for value in sorted(drawn[:MAX_NAMES])]
    if len(drawn) > MAX_NAMES:
        handles.append(Patch(alpha=0, label=f"and {len(drawn) - MAX_NAMES} more"))
    handles = handles or [Patch(alpha=0, label="no voxel is labelled")]
    style = {"frameon": False, "labelcolor": "white", "fontsize": 9, "borderpad": 0.2, "handlelength": 1.2}
    figure.legend(handles=handles, loc="lower center", ncols=len(handles), **style)
