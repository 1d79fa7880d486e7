"""Pictures side by side in rows, with a line of text above each row."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

Pixels = npt.NDArray[np.uint8]
GAP, LINE, FONT = 6, 22, 14
PALE, MARK = (222, 226, 230), (255, 211, 77)
LETTER_PLACES = ((0.03, 0.5), (0.97, 0.5), (0.5, 0.04), (0.5, 0.96))


@dataclass(frozen=True)
class Tile:
    """One picture.

    Attributes:
        pixels: `(height, width, 3)`.
        size: Width and height it is drawn at.
        text: What stands above it.
        letters: What is at its left, right, top and bottom; empty for none.
    """

    pixels: Pixels
    size: tuple[int, int]
    text: str = ""
    letters: tuple[str, ...] = ()


def montage(rows: Sequence[Sequence[Tile]]) -> bytes:
    """Draw tiles on black, one row below the other.

    Args:
        rows: From the left, from the top; the tiles of a row share their upper edge.

    Returns:
        A PNG.
    """
    heights = [LINE * any(tile.text for tile in row) + max(tile.size[1] for tile in row) for row in rows]
    width = max(sum(tile.size[0] + GAP for tile in row) for row in rows) + GAP
    canvas = Image.new("RGB", (width, sum(heights) + GAP * (len(rows) + 1)))
    top = GAP
    for row, height in zip(rows, heights, strict=True):
        _draw_row(canvas, row, top)
        top += height + GAP
    buffer = io.BytesIO()
    canvas.save(buffer, "PNG")
    return buffer.getvalue()


def _draw_row(canvas: Image.Image, row: Sequence[Tile], top: int) -> None:
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(FONT)
    line = LINE * any(tile.text for tile in row)
    left, upper = GAP, top + line
    for tile in row:
        wide, high = tile.size
        picture = Image.fromarray(np.ascontiguousarray(tile.pixels))
        canvas.paste(picture.resize(tile.size, Image.Resampling.BICUBIC), (left, upper))
        draw.text((left, top), tile.text, PALE, font)
        for letter, (x, y) in zip(tile.letters, LETTER_PLACES, strict=False):
            draw.text(
                (left + x * wide, upper + y * high),
                letter,
                MARK,
                font,
                anchor="mm",
                stroke_width=2,
                stroke_fill="black",
            )
        left += wide + GAP
