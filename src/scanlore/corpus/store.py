"""The voxel store: levels of many scans as Blosc2 frames, one after the other in shard files.

The format is described in `docs/reference/store.md`. This module is what loader workers import: numpy and blosc2 only.

Codec: bit shuffle and LZ4, in blocks of about 32^3 (64^2), which are unpacked at once, four of them (eight) along each
axis of a chunk. For a CT with the noise of a scanner, on one core: 700 to 1,500 MB/s to write, 0.4 to 0.6 of the size,
1.2 ms for a box of 96^3. LZ4HC with byte shuffle writes seven times slower and larger, and reads as fast; Zstandard is
up to a twentieth smaller and takes two to three times as long to read. `benchmarks/store_speed.py` measures them.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import blosc2
import numpy as np
import numpy.typing as npt

from scanlore.corpus.tiles import c_order
from scanlore.errors import DataError

Factors = tuple[int, ...]

BLOCK_EDGE, BLOCKS_OF_CHUNK = {1: 1 << 14, 2: 64, 3: 32}, {1: 1, 2: 8, 3: 4}
"""By number of axes. A block is what is unpacked at once; a chunk costs a fifth of a millisecond to write."""
SHARD_BYTES = 1 << 30
OPEN_LEVELS = 256

MEND = "`scanlore corpus verify` finds and mends damage"
FRAME_LENGTH = slice(16, 24)
"""Where a Blosc2 frame says how long it is, as a big-endian number."""


def encode(voxels: npt.NDArray[np.generic]) -> bytes:
    """Compress a level or a mask to a contiguous Blosc2 frame; equal voxels give equal bytes.

    Args:
        voxels: At least one axis; any order in memory, of which a slab at a time is turned.
    """
    chunks, blocks = layout(voxels.shape)
    cparams = {"codec": blosc2.Codec.LZ4, "clevel": 5, "filters": [blosc2.Filter.BITSHUFFLE], "nthreads": 1}
    places = {"chunks": chunks, "blocks": blocks, "contiguous": True}  # not contiguous would hold the frame twice
    level = blosc2.empty(voxels.shape, voxels.dtype, cparams=cparams, **places)
    for first in range(0, voxels.shape[0], chunks[0]):
        level[first : first + chunks[0]] = c_order(voxels[first : first + chunks[0]])
    frame: bytes = level.to_cframe()
    return frame


def layout(shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the shapes of chunks and blocks: axes are cut evenly, as the rest of a last block would be stored too."""
    parts = [max(1, round(edge / BLOCK_EDGE[len(shape)])) for edge in shape]
    blocks = tuple(-(-edge // number) for edge, number in zip(shape, parts, strict=True))
    chunks = tuple(min(edge, block * BLOCKS_OF_CHUNK[len(shape)]) for edge, block in zip(shape, blocks, strict=True))
    return chunks, blocks


def checksum(frames: Iterable[bytes]) -> str:
    """Return the CRC-32 of the frames of one entry, one after the other, as 8 hexadecimal digits."""
    value = 0
    for frame in frames:
        value = zlib.crc32(frame, value)
    return f"{value:08x}"


def frame_length(start: bytes) -> int:
    """Return the length of a frame from its first bytes, at least as many as `FRAME_LENGTH` needs.

    Where these are damaged it may be any number.
    """
    return max(int.from_bytes(start[FRAME_LENGTH], "big"), FRAME_LENGTH.stop)


def shard_path(root: Path, shard: int) -> Path:
    """Return the path of a shard file of the corpus at `root`."""
    return root / "shards" / f"{shard:05d}.b2s"


def check_shard(root: Path, shard: int, offset: int) -> None:
    """Make sure that a shard file reaches to the end of its last frame; reads a few bytes alone.

    Args:
        root: The corpus folder.
        shard: Number of the shard.
        offset: Of the last frame the index knows in it.

    Raises:
        DataError: The file is missing or too short.
    """
    path = shard_path(root, shard)
    if not path.is_file():
        raise DataError(f"shard {shard:05d} is missing", where=root, fix=MEND)
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(offset)
        start = file.read(FRAME_LENGTH.stop)
    needed = offset + frame_length(start)
    if size < needed:
        what = f"shard {shard:05d} is damaged: {size} bytes, the index needs {needed}"
        raise DataError(what, where=root, fix=MEND)


class ShardWriter:
    """Appends frames to shard files; whatever lies behind the given end is cut off first.

    Args:
        root: The corpus folder.
        shard: Number of the shard to go on with.
        end: Its length in bytes as far as it is recorded.
    """

    def __init__(self, root: Path, shard: int = 0, end: int = 0) -> None:
        self.root, self.shard, self.end = root, shard, end
        self._file = self._open()

    def _open(self) -> Any:
        path = shard_path(self.root, self.shard)
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("r+b" if path.exists() else "w+b")
        file.truncate(self.end)
        file.seek(self.end)
        return file

    def append(self, frames: list[bytes]) -> list[int]:
        """Write the frames of one entry into one shard and return their offsets in it."""
        if self.end and self.end + sum(map(len, frames)) > SHARD_BYTES:
            self.close()
            self.shard, self.end = self.shard + 1, 0
            self._file = self._open()
        offsets = []
        for frame in frames:
            offsets.append(self.end)
            self._file.write(frame)
            self.end += len(frame)
        self._file.flush()
        return offsets

    def sync(self) -> None:
        """Force what was written onto the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Sync and close the current shard."""
        self.sync()
        self._file.close()


@dataclass(frozen=True)
class Pyramid:
    """One entry's levels: from a store or, for inference, in memory.

    Attributes:
        factors: `(L, ndim)` reduction factors.
        levels: What to read each level from: an array, or `(shard path, offset)`.
        slope: Of the stored values.
        intercept: Of the stored values.
    """

    factors: tuple[Factors, ...]
    levels: tuple[Any, ...]
    slope: float
    intercept: float

    def shape(self, level: int) -> tuple[int, ...]:
        """Return the shape of a level."""
        return tuple(int(size) for size in self._level(level).shape)

    def read(self, level: int, box: tuple[slice, ...]) -> npt.NDArray[np.generic]:
        """Read a box of stored values of a level.

        Raises:
            DataError: The store is damaged there.
        """
        opened = self._level(level)
        try:
            block: npt.NDArray[np.generic] = np.asarray(opened[box])
        except RuntimeError as error:
            path, offset = self.levels[level]  # only a store fails so
            raise _damaged(path, offset) from error
        return block

    def _level(self, level: int) -> Any:
        place = self.levels[level]
        return _open_level(*place) if isinstance(place, tuple) else place


@lru_cache(maxsize=OPEN_LEVELS)
def _open_level(path: str, offset: int) -> Any:
    try:
        return blosc2.open(path, mode="r", offset=offset, mmap_mode="r", dparams={"nthreads": 1})
    except (RuntimeError, OSError, ValueError) as error:
        raise _damaged(path, offset) from error


def _damaged(path: str, offset: int) -> DataError:
    what = f"the file is shorter than the index says or damaged, at byte {offset}"
    return DataError(what, where=path, fix=MEND)
