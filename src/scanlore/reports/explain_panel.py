"""Pictures of what models see in a scan: colours of patch features and maps of attention in the middle planes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps

from scanlore.inference.lattice import Floats, Lattice, Places, at_voxels, is_seen
from scanlore.reports.figures import EDGES
from scanlore.reports.montage import Pixels, Tile, montage
from scanlore.reports.pca import Basis
from scanlore.scans.scan import Scan

WIDTH, TALLEST = 960, 320
"""Pixels: of a row of planes, and of its tallest plane."""
HEAD_WIDTH = 470
IMAGE_EDGE = 310
"""Pixels: the longer edge of a 2D image."""
OPACITY = 0.7
BRIGHTEST = 99.5
"""Percentile of a map of attention that is drawn brightest: single patches hold much of it in some networks."""
WHITE, BLACK, UNSEEN = 255, 0, 60


@dataclass(frozen=True)
class Seen:
    """What one model sees in a scan.

    Attributes:
        name: What the model is called.
        scores: `(4, *grid)`, the components of its features.
        basis: How they are drawn.
        attention: `(heads, *grid)`; `None` for a network without.
        lattice: Where the grid lies in the scan.
    """

    name: str
    scores: Floats
    basis: Basis
    attention: Floats | None
    lattice: Lattice


def paint(seen: Seen, voxels: Sequence[Places], background: int) -> Pixels:
    """Colour voxels by the components of the features around them.

    Args:
        seen: What the model sees.
        voxels: For each axis of the scan the voxel indices wanted.
        background: Value of what is background or outside the model's field of view: 0 or 255; foreground never is 0.

    Returns:
        `(*lengths of voxels, 3)`.
    """
    scores = at_voxels(seen.scores, seen.lattice, voxels)
    is_drawn = seen.basis.foreground(scores) & is_seen(seen.lattice, voxels)
    colours = 1 + seen.basis.rgb(scores) * 254
    return np.where(is_drawn[..., None], colours.astype(np.uint8), np.uint8(background))


def attention_at(seen: Seen, head: Floats, voxels: Sequence[Places]) -> Floats:
    """Return the attention `(*grid)` of one head at voxels; 0 outside the model's field of view."""
    values = at_voxels(head[None], seen.lattice, voxels)[0]
    return np.where(is_seen(seen.lattice, voxels), values, np.float32(0))


def draw_panel(scan: Scan, models: Sequence[Seen]) -> bytes:
    """Draw a scan, and for each model the colours of its features and the mean attention of its heads.

    A volume is drawn in three planes through the middle of the first model's field of view, as a radiologist sees it:
    superior or anterior is up, the patient's right is on the left, and anterior is left in the sagittal plane.

    Args:
        scan: The scan.
        models: What each model sees in it.

    Returns:
        A PNG.
    """
    planes = _planes(scan, models[0].lattice)
    sizes = _sizes(scan, WIDTH, TALLEST)
    grey = _grey(scan, planes)
    letters = EDGES if scan.ndim == 3 else ((),)
    scan_row = [Tile(*parts) for parts in zip(grey, sizes, _texts("scan", scan), letters, strict=True)]
    colours = [_tiles(scan, sizes, _coloured(seen, planes), f"{seen.name}: features") for seen in models]
    heat = [
        _tiles(scan, sizes, _heated(seen, seen.attention.mean(0), planes, grey), _attention_text(seen))
        for seen in models
        if seen.attention is not None
    ]
    if scan.ndim == 3:
        return montage([scan_row, *colours, *heat])
    return montage([[*scan_row, *(tile for row in rows for tile in row)] for rows in (colours, heat) if rows])


def draw_heads(scan: Scan, seen: Seen) -> bytes:
    """Draw the attention of every head of a model, each up to its own brightest; in the planes of `draw_panel`.

    Returns:
        A PNG.
    """
    assert seen.attention is not None
    planes, per_row = _planes(scan, seen.lattice), 2 if scan.ndim == 3 else 4
    sizes = _sizes(scan, HEAD_WIDTH, TALLEST // 2) if scan.ndim == 3 else _sizes(scan, 0, 0)
    grey = _grey(scan, planes)
    heads = [
        _tiles(scan, sizes, _heated(seen, head, planes, grey), f"head {number}")
        for number, head in enumerate(seen.attention, start=1)
    ]
    rows = [heads[first : first + per_row] for first in range(0, len(heads), per_row)]
    return montage([[tile for head in row for tile in head] for row in rows])


def _attention_text(seen: Seen) -> str:
    assert seen.attention is not None
    return f"{seen.name}: [CLS] attention, mean of {len(seen.attention)} heads"


def _texts(text: str, scan: Scan) -> list[str]:
    return [text, "", ""][: 3 if scan.ndim == 3 else 1]


def _tiles(scan: Scan, sizes: Sequence[tuple[int, int]], pictures: Sequence[Pixels], text: str) -> list[Tile]:
    return [Tile(*parts) for parts in zip(pictures, sizes, _texts(text, scan), strict=True)]


def _planes(scan: Scan, lattice: Lattice) -> list[list[Places]]:
    """Return the voxels of the plane across each axis; of an image all."""
    whole: list[Places] = [np.arange(size) for size in scan.shape]
    if scan.ndim == 2:
        return [whole]
    middles = [
        np.array([min(max(round((low + high) / 2), 0), size - 1)])
        for low, high, size in zip(lattice.low, lattice.high, scan.shape, strict=True)
    ]
    return [[*whole[:axis], middles[axis], *whole[axis + 1 :]] for axis in range(3)]


def _upright(planes: Sequence[npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
    """Turn planes, one across each axis, to rows from the top and columns from the left; an image stays as it is."""
    if len(planes) == 1:
        return list(planes)
    return [plane.take(0, axis).swapaxes(0, 1)[::-1, ::-1] for axis, plane in enumerate(planes)]


def _sizes(scan: Scan, width: int, tallest: int) -> list[tuple[int, int]]:
    """Return width and height in pixels of each plane, in true proportions."""
    extent = np.array(scan.shape) * np.array(scan.spacing or [1.0] * scan.ndim)
    widths, heights = (extent[[1]], extent[[0]]) if scan.ndim == 2 else (extent[[1, 0, 0]], extent[[2, 2, 1]])
    scale = IMAGE_EDGE / extent.max() if scan.ndim == 2 else min(width / widths.sum(), tallest / heights.max())
    return [(max(1, round(w * scale)), max(1, round(h * scale))) for w, h in zip(widths, heights, strict=True)]


def _grey(scan: Scan, planes: Sequence[Sequence[Places]]) -> list[Pixels]:
    is_colour = scan.ndim == 2 and scan.num_channels == 3
    channels = (0, 1, 2) if is_colour else (0, 0, 0)
    cut = [
        np.stack([scan.voxels[one][np.ix_(*voxels)] for one in channels], -1).astype(np.float32) for voxels in planes
    ]
    low, high = np.percentile(np.concatenate([plane.ravel() for plane in cut]), [0.5, 99.8])
    scaled = [np.clip((plane - low) / max(high - low, 1e-6), 0, 1) * 255 for plane in cut]
    return _upright([plane.astype(np.uint8) for plane in scaled])


def _coloured(seen: Seen, planes: Sequence[Sequence[Places]]) -> list[Pixels]:
    painted = [paint(seen, voxels, WHITE) for voxels in planes]
    for plane, voxels in zip(painted, planes, strict=True):
        plane[~is_seen(seen.lattice, voxels)] = UNSEEN
    return _upright(painted)


def _heated(seen: Seen, head: Floats, planes: Sequence[Sequence[Places]], grey: Sequence[Pixels]) -> list[Pixels]:
    low, high = float(head.min()), float(np.percentile(head, BRIGHTEST))
    maps = [np.clip((attention_at(seen, head, voxels) - low) / max(high - low, 1e-12), 0, 1) for voxels in planes]
    pictures = []
    for heat, below in zip(_upright(maps), grey, strict=True):
        colour = colormaps["inferno"](heat)[..., :3] * 255
        pictures.append((below * (1 - OPACITY) + colour * OPACITY).astype(np.uint8))
    return pictures
