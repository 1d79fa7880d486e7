"""Rows of a run for its page: all of a short one, evenly spaced ones of a long one, so that no run is slow to read."""

from __future__ import annotations

import contextlib
import json
import mmap
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

Row = dict[str, Any]

MAX_ROWS = 4000
"""Rows read of a file that is not read whole."""
WHOLE_BYTES = 4_000_000
"""Files up to this size are read whole: about ten thousand steps."""


def sampled_rows(path: Path, max_rows: int = MAX_ROWS, whole_bytes: int = WHOLE_BYTES) -> list[Row]:
    """Return rows of a JSON-lines file in order: evenly spaced ones where it is large, with the first and the last.

    Args:
        path: The file; it may be missing, and its last line may be half written.
        max_rows: About as many are read of a large file.
        whole_bytes: Up to this size all rows are.
    """
    with _mapped(path) as text:
        end = text.rfind(b"\n")
        if end < 0:
            return []
        if end < whole_bytes:
            return _parsed(text[: end + 1].splitlines())
        places = np.linspace(0, end, max_rows, endpoint=False).astype(int).tolist()[1:]
        starts = sorted({0, *(text.find(b"\n", place) + 1 for place in places), text.rfind(b"\n", 0, end) + 1})
        return _parsed(text[start : text.find(b"\n", start)] for start in starts if start <= end)


def rows_with(path: Path, keys: Iterable[str], max_rows: int = MAX_ROWS) -> list[Row]:
    """Return the rows that hold one of some keys, in order, where only few rows do.

    They are found as text, which takes a fraction of a second for a million rows.

    Args:
        path: The file; it may be missing.
        keys: Names of values.
        max_rows: For each key; of more, about as many evenly spaced ones.
    """
    with _mapped(path) as text:
        starts = sorted({start for key in keys for start in _lines_with(text, json.dumps(key).encode(), max_rows)})
        return _parsed(text[start : text.find(b"\n", start)] for start in starts)


def _lines_with(text: mmap.mmap | bytes, word: bytes, max_rows: int) -> Iterator[int]:
    """Yield where the lines with a word begin."""
    end = text.rfind(b"\n")
    stride, place = len(text) // max_rows, 0
    while (hit := text.find(word, place, max(end, 0))) >= 0:
        start = text.rfind(b"\n", 0, hit) + 1
        yield start
        place = max(text.find(b"\n", hit), start + stride)


@contextlib.contextmanager
def _mapped(path: Path) -> Iterator[mmap.mmap | bytes]:
    """Give the bytes of a file without reading it; none of one that is missing or empty."""
    if not path.is_file() or not path.stat().st_size:
        yield b""
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        yield text


def _parsed(lines: Iterable[bytes]) -> list[Row]:
    rows = []
    for line in lines:
        with contextlib.suppress(ValueError):
            row = json.loads(line)
            if isinstance(row, dict) and isinstance(row.get("step"), int):
                rows.append(row)
    return rows
