"""Thumbnails of stored scans, read from coarse levels, and the facts beside them."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from PIL import Image

from scanlore.corpus.reasons import UNKNOWN
from scanlore.corpus.store import Pyramid, shard_path
from scanlore.errors import DataError
from scanlore.reports.corpus_counts import NOT_MR, described

NUM_THUMBNAILS = 300
WIDTH, HEIGHT = 480, 176
"""Of a picture, in pixels: shown at half that size, so that it is sharp on fine screens."""
GAP = 4
FINE_ENOUGH = 96
"""Voxels along the longest axis of the level that a picture is made from."""
QUALITIES = (78, 50, 25)
MAX_BYTES = 20_000
"""Of a picture: 300 of them make a page of at most 8 MB."""
# Okabe and Ito's colours on black, for label maps
LABEL_COLOURS = np.array(
    [(0, 0, 0), (0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (230, 159, 0), (86, 180, 233)], np.uint8
)


@dataclass(frozen=True)
class Card:
    """One stored scan of the gallery.

    Attributes:
        picture: Data URI of a JPEG; empty where the store is damaged.
        name: First digits of the source's hash, and the channel of a scan of several.
        status: `kept` or `dropped`.
        rule: Why it was dropped, with its value.
        facts: What is known of it, in a few words each.
        dataset: Its dataset.
        modality: Its modality.
        shape: Of the whole scan.
        spacing: In mm.
        bytes: Of its files.
        voxels: Of the whole scan.
        thickest: Largest spacing; -1 where it is unknown.
        thinnest: Voxels along the shortest axis.
        view: Smallest field of view in mm; -1 where it is unknown.
    """

    picture: str
    name: str
    status: str
    rule: str
    facts: tuple[str, ...]
    dataset: str
    modality: str
    shape: str
    spacing: str
    bytes: int
    voxels: int
    thickest: float
    thinnest: int
    view: float

    @property
    def words(self) -> str:
        """What the text filter searches."""
        return " ".join((self.name, self.dataset, *self.facts, self.status, self.rule)).lower()


def choose(frame: pl.DataFrame, most: int = NUM_THUMBNAILS) -> pl.DataFrame:
    """Return stored rows, evenly over datasets and, within each, over kept and dropped; the same on every call.

    Args:
        frame: An index.
        most: Rows to return; all where there are no more.
    """
    order = ("dataset", "source", "channel")
    stored = frame.with_row_index("row").filter(pl.col("shard").is_not_null()).select("row", "status", *order)
    # Hashes are random, so their order is a draw
    place = pl.int_range(pl.len())
    ranked = stored.sort("source", "channel").with_columns(place.over("dataset", "status").alias("in status"))
    ranked = ranked.sort("in status", "status", "source").with_columns(place.over("dataset").alias("in dataset"))
    chosen = ranked.sort("in dataset", "dataset", "source").head(most).sort(order)
    return frame[chosen["row"]]


def cards(root: Path, rows: pl.DataFrame) -> list[Card]:
    """Return a card for each row.

    Args:
        root: The corpus folder.
        rows: From `choose`.
    """
    return [_card(root, row) for row in described(rows).to_dicts()]


def thumbnail(pyramid: Pyramid, sizes: Sequence[float], is_label: bool) -> Image.Image:
    """Draw the middle planes of a stored scan side by side in true proportions, an image as it is.

    Superior or anterior is up, the patient's right is on the left, and anterior is left in the sagittal plane.

    Args:
        pyramid: Its levels.
        sizes: Its extent in mm, or voxels where the spacing is unknown, along each axis.
        is_label: Colour the values instead of scaling them by percentiles.
    """
    level = coarse_level(pyramid)
    planes = _planes(pyramid, level)
    axes = ((0, 1),) if len(sizes) == 2 else ((2, 1), (2, 0), (1, 0))
    heights, widths = (np.array([sizes[pair[side]] for pair in axes], dtype=float) for side in (0, 1))
    room = WIDTH - GAP * (len(planes) - 1)
    scale = min(HEIGHT / heights.max(), room / widths.sum())
    low, high = _window(planes)
    canvas = Image.new("RGB" if is_label else "L", (WIDTH, HEIGHT))
    left = (room - widths.sum() * scale) / 2
    for plane, height, width in zip(planes, heights * scale, widths * scale, strict=True):
        pixels = LABEL_COLOURS[_label_places(plane)] if is_label else _grey(plane, low, high)
        size = (max(1, round(width)), max(1, round(height)))
        kind = Image.Resampling.NEAREST if is_label else Image.Resampling.BICUBIC
        canvas.paste(Image.fromarray(pixels).resize(size, kind), (round(left), round((HEIGHT - height) / 2)))
        left += width + GAP
    return canvas


def coarse_level(pyramid: Pyramid) -> int:
    """Return the coarsest level that still has `FINE_ENOUGH` voxels along its longest axis, else the finest."""
    levels = range(len(pyramid.factors))
    return max((level for level in levels if max(pyramid.shape(level)) >= FINE_ENOUGH), default=0)


def _planes(pyramid: Pyramid, level: int) -> list[npt.NDArray[Any]]:
    """Read the middle plane across each axis, rows from the top and columns from the left of the picture."""
    shape = pyramid.shape(level)
    whole = tuple(slice(0, size) for size in shape)
    if len(shape) == 2:
        return [pyramid.read(level, whole)]
    planes = []
    for axis, size in enumerate(shape):
        box = (*whole[:axis], slice(size // 2, size // 2 + 1), *whole[axis + 1 :])
        planes.append(pyramid.read(level, box).squeeze(axis).T[::-1, ::-1])
    return planes


def _window(planes: Sequence[npt.NDArray[Any]]) -> tuple[float, float]:
    low, high = np.percentile(np.concatenate([plane.ravel() for plane in planes]).astype(np.float32), [1, 99.5])
    return float(low), float(max(high, low + 1e-6))


def _grey(plane: npt.NDArray[Any], low: float, high: float) -> npt.NDArray[np.uint8]:
    scaled = (plane.astype(np.float32) - low) * (255 / (high - low))
    return np.ascontiguousarray(np.clip(scaled, 0, 255).astype(np.uint8))


def _label_places(plane: npt.NDArray[Any]) -> npt.NDArray[np.intp]:
    places: npt.NDArray[np.intp] = np.where(plane > 0, (plane.astype(np.intp) - 1) % (len(LABEL_COLOURS) - 1) + 1, 0)
    return places


def _card(root: Path, row: dict[str, Any]) -> Card:
    shape, spacing = row["scan_shape"], row["spacing"]
    several = row["num_channels"] or 1
    facts = [row[name] for name in ("modality", "sequence", "body_part", "contrast", "plane", "format")]
    dropped = row["reason"] if row["status"] == "dropped" else None
    return Card(
        picture=_picture(root, row),
        name=row["source"][:10] + (f" channel {row['channel'] + 1} of {several}" if several > 1 else ""),
        status=row["status"],
        rule=dropped or "",
        facts=tuple(fact for fact in facts if fact not in (UNKNOWN, NOT_MR)),
        dataset=row["dataset"],
        modality=row["modality"],
        shape=" x ".join(map(str, shape)),
        spacing=" x ".join(f"{value:.3g}" for value in spacing) + " mm" if spacing else "spacing unknown",
        bytes=row["bytes"] or 0,
        voxels=int(np.prod(shape)),
        thickest=max(spacing, default=-1.0) if spacing else -1.0,
        thinnest=min(shape),
        view=min(size * step for size, step in zip(shape, spacing, strict=True)) if spacing else -1.0,
    )


def _picture(root: Path, row: dict[str, Any]) -> str:
    path = str(shard_path(root, row["shard"]))
    factors = tuple(tuple(some) for some in np.reshape(row["level_factors"], (-1, row["ndim"])).tolist())
    pyramid = Pyramid(factors, tuple((path, offset) for offset in row["level_offsets"]), 1.0, 0.0)
    steps = row["spacing"] or [1.0] * row["ndim"]
    sizes = [size * step for size, step in zip(row["shape"], steps, strict=True)]
    try:
        drawn = thumbnail(pyramid, sizes, is_label=row["role"] == "label")
    except DataError:
        return ""
    return f"data:image/jpeg;base64,{base64.b64encode(_jpeg(drawn)).decode('ascii')}"


def _jpeg(image: Image.Image) -> bytes:
    """Encode a picture, noisy ones more coarsely so that none outgrows the page."""
    for quality in QUALITIES:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality)
        if buffer.tell() <= MAX_BYTES:
            break
    return buffer.getvalue()
