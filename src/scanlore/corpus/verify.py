"""Finding stored entries whose bytes are not those that were written."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from scanlore.corpus.store import FRAME_LENGTH, frame_length, shard_path

if TYPE_CHECKING:
    import polars as pl

BLOCK_BYTES = 1 << 24


def damaged(root: Path, frame: pl.DataFrame) -> list[int]:
    """Return the row numbers of the entries whose bytes do not match their checksum, or are not there.

    Every stored byte is read once, shard by shard; rows that share an entry are damaged together.

    Args:
        root: The corpus folder.
        frame: Its index, or some rows of it, with the columns `shard`, `level_offsets` and `checksum`.
    """
    import polars as pl

    numbered = frame.select("shard", "level_offsets", "checksum").with_row_index("row")
    stored = numbered.filter(pl.col("shard").is_not_null())
    bad: list[int] = []
    for rows in stored.partition_by("shard", maintain_order=True):
        bad += _damaged_in(shard_path(root, rows["shard"][0]), rows.drop("shard").rows())
    return sorted(bad)


def _damaged_in(path: Path, rows: list[tuple[int, list[int], str]]) -> list[int]:
    """Check the entries of one shard: row number, offsets and checksum of each."""
    if not path.is_file():
        return [row for row, _, _ in rows]
    found: dict[tuple[int, ...], str | None] = {}
    with path.open("rb") as file:
        for offsets in sorted({tuple(offsets) for _, offsets, _ in rows}):
            found[offsets] = _checksum_between(file, offsets[0], offsets[-1])
    return [row for row, offsets, checksum in rows if found[tuple(offsets)] != checksum]


def _checksum_between(file: BinaryIO, first: int, last: int) -> str | None:
    """Return what `store.checksum` gives for the frames from one offset to the end of the frame at another."""
    file.seek(last)
    end = last + frame_length(file.read(FRAME_LENGTH.stop))
    file.seek(first)
    value, left = 0, end - first
    while left:
        block = file.read(min(left, BLOCK_BYTES))
        if not block:
            return None
        value, left = zlib.crc32(block, value), left - len(block)
    return f"{value:08x}"
