"""A picture of a batch as the network sees it: every view as it was read, and after what is done to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch

from scanlore.methods.masked import mask_grid
from scanlore.reports.montage import Pixels, Tile, montage
from scanlore.run import write_atomically
from scanlore.training.settings import PretrainSettings
from scanlore.views.loader import Batch, ViewGroup
from scanlore.views.photometric import apply_photometric

Floats = npt.NDArray[np.floating]
Mask = npt.NDArray[np.bool_]
Kind = TypeVar("Kind", bound=np.generic)

MAX_SCANS, MAX_VIEWS = 3, 8
"""Scans of a sheet, and views of each group of a scan."""
LARGE, PLANE, SMALL = 152, 112, 72
"""Edges in pixels: of an image, of each middle plane of a volume, of a local view."""
HIDDEN, OPACITY = np.array([213, 94, 0], dtype=np.float32), 0.55
LOCAL, UNDRAWN = "local", "gram"


def draw_views(batch: Batch, settings: PretrainSettings, path: Path) -> None:
    """Write a PNG with two rows per scan: its views as they were read, and as the network is trained on them.

    The second row has the photometric transforms, and hidden patches or blocks are shaded. Of volumes the middle planes
    across all axes are drawn, of local views the one across the last axis. The batch is left as it is.

    Args:
        batch: As the loader gave it, before `to_device`.
        settings: Of the run.
        path: Where to; its folder is made.
    """
    rows = [row for place in _chosen(batch) for row in _scan_rows(batch, settings, place)]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, montage(rows))


def _chosen(batch: Batch) -> list[int]:
    """Return the places of the scans to draw: first those of which something is hidden."""
    places = list(range(len(batch.scans)))
    if batch.masks.numel():
        is_masked = batch.masks.any(1).reshape(-1, len(batch.scans)).any(0).tolist()
        places = sorted(places, key=lambda place: not is_masked[place])
    return places[:MAX_SCANS]


def _scan_rows(batch: Batch, settings: PretrainSettings, place: int) -> list[list[Tile]]:
    """Return the views of one scan as they were read, and below them as they are trained on where that differs."""
    read: list[Tile] = []
    trained: list[Tile] = []
    bounds = None
    for name, group in batch.groups.items():
        if name == UNDRAWN or not len(group.pixels):
            continue
        places = torch.arange(place, len(group.pixels), len(batch.scans))[:MAX_VIEWS]
        before, after = _both(group, places, settings.views.clips)
        bounds = bounds or _window(before)
        for crop, hidden in enumerate(_hidden(batch, name, places, before.shape[1:])):
            is_large = name != LOCAL
            text = name if len(places) == 1 else f"{name} {crop + 1}" if is_large or crop == 0 else ""
            read += _tiles(before[crop], None, bounds, f"{text}, read" if is_large else text, is_large)
            trained += _tiles(after[crop], hidden, bounds, _trained_text(hidden) if is_large else "", is_large)
    return [read, trained]


def _both(group: ViewGroup, places: torch.Tensor, clips: bool) -> tuple[Floats, Floats]:
    """Return views `(views, *spatial)` without and with their photometric transforms."""
    pixels = group.pixels[places].float()
    before = pixels.clone()
    if group.draws.numel():
        bounds = (group.low[places], group.high[places]) if clips else (None, None)
        apply_photometric(pixels, group.draws[places], *bounds)
    return before[:, 0].numpy(), pixels[:, 0].numpy()


def _hidden(batch: Batch, name: str, places: torch.Tensor, spatial: tuple[int, ...]) -> Iterator[Mask | None]:
    """Yield for each view which voxels are hidden; `None` where masks are of other views."""
    is_masked = batch.masks.numel() > 0 and name == next(iter(batch.groups))
    for place in places.tolist():
        if not is_masked:
            yield None
            continue
        grid = mask_grid(spatial, batch.masks.shape[1])
        hidden = batch.masks[place].numpy().reshape(grid)
        for axis, edge in enumerate(spatial):
            hidden = np.repeat(hidden, edge // grid[axis], axis)
        yield hidden


def _trained_text(hidden: Mask | None) -> str:
    return "trained" if hidden is None or not hidden.any() else f"trained, {hidden.mean():.0%} hidden"


def _window(views: Floats) -> tuple[float, float]:
    """Return the values of black and white: one window for a scan, so that contrast can be compared."""
    low, high = np.percentile(views, [0.5, 99.8])
    return float(low), max(float(high), float(low) + 1e-6)


def _tiles(view: Floats, hidden: Mask | None, bounds: tuple[float, float], text: str, is_large: bool) -> list[Tile]:
    planes = _planes(view, is_large)
    shaded: Sequence[Mask | None] = [None] * len(planes) if hidden is None else _planes(hidden, is_large)
    edge = SMALL if not is_large else LARGE if view.ndim == 2 else PLANE
    tiles = []
    for place, (plane, mask) in enumerate(zip(planes, shaded, strict=True)):
        height, width = plane.shape
        scale = edge / max(height, width)
        size = max(1, round(width * scale)), max(1, round(height * scale))
        tiles.append(Tile(_coloured(plane, mask, bounds), size, text if place == 0 else ""))
    return tiles


def _planes(view: npt.NDArray[Kind], is_large: bool) -> list[npt.NDArray[Kind]]:
    """Return an image, or the middle planes of a volume, rows from the top; of local views the last one alone."""
    if view.ndim == 2:
        return [view]
    axes = range(view.ndim) if is_large else (view.ndim - 1,)
    return [np.take(view, view.shape[axis] // 2, axis).T[::-1, ::-1] for axis in axes]


def _coloured(plane: Floats, mask: Mask | None, bounds: tuple[float, float]) -> Pixels:
    low, high = bounds
    grey = np.clip(np.nan_to_num((plane - low) / (high - low)), 0, 1).astype(np.float32)
    picture = np.repeat(grey[..., None] * 255, 3, axis=-1)
    if mask is not None:
        picture[mask] = (1 - OPACITY) * picture[mask] + OPACITY * HIDDEN
    return picture.round().astype(np.uint8)
