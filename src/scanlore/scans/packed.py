"""The bytes of a file, unpacked where it is a gzip file: never more than asked for."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from scanlore.errors import DataError
from scanlore.scans.limits import bytes_there, check_promise

PACKED_ENDINGS = (".gz", ".mgz")
_GZIP_MAGIC = b"\x1f\x8b"
_GZIP, _ZLIB_OR_GZIP = 31, 47
_READ = 1 << 18
_PIECE = 1 << 18


def is_packed(path: Path) -> bool:
    """Whether a name says that the file is compressed."""
    return path.name.lower().endswith(PACKED_ENDINGS)


def read_start(path: Path, num_bytes: int) -> bytes:
    """Return the first bytes of a file, fewer where it ends before.

    Args:
        path: The file, unpacked on the way if its name says so.
        num_bytes: How many.

    Raises:
        OSError: It cannot be opened.
        zlib.error: It is no gzip file, or damaged.
    """
    with path.open("rb") as file:
        return start_of(file, num_bytes, is_packed(path))


def start_of(file: IO[bytes], num_bytes: int, is_gzip: bool) -> bytes:
    """Return the first bytes of an open file; as `read_start`."""
    return b"".join(_unpacked(file, num_bytes)) if is_gzip else file.read(num_bytes)


def read_voxels(path: Path, offset: int, dtype: npt.DTypeLike, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Read an array that a file holds with its first axis running fastest.

    Args:
        path: The file, unpacked on the way if its name says so.
        offset: Bytes before the array, after unpacking.
        dtype: As stored.
        shape: Of the array.

    Returns:
        The array in this order of axes and the byte order of the machine.

    Raises:
        DataError: The file cannot hold, or does not hold, that many bytes.
        zlib.error: It is damaged.
    """
    stored = np.dtype(dtype)
    num_bytes = stored.itemsize * int(np.prod(shape, dtype=object))
    if offset < 0:
        raise DataError(f"damaged header: the voxels begin at byte {offset}", where=path)
    check_promise(offset + num_bytes, bytes_there(path), path, is_packed=is_packed(path))
    data = (
        _unpack(path, offset, num_bytes) if is_packed(path) else np.fromfile(path, np.uint8, num_bytes, offset=offset)
    )
    if len(data) < num_bytes:
        raise DataError(f"truncated: {len(data)} of {num_bytes} bytes", where=path)
    array = data.view(stored).reshape(shape, order="F")
    return array.astype(stored.newbyteorder("="), copy=False)


def _unpack(path: Path, offset: int, num_bytes: int) -> npt.NDArray[np.uint8]:
    """Return the bytes behind `offset`. One more is asked for, since checksums lie behind the last one."""
    data = np.empty(num_bytes, np.uint8)
    done = -offset
    with path.open("rb") as file:
        for piece in _unpacked(file, offset + num_bytes + 1):
            first, done = max(0, -done), done + len(piece)
            part = piece[first : len(piece) - max(0, done - num_bytes)]
            if part:
                begin = done - len(piece) + first
                data[begin : begin + len(part)] = np.frombuffer(part, np.uint8)
    return data[: max(0, done)]


def _unpacked(file: IO[bytes], num_bytes: int) -> Iterator[bytes]:
    """Yield pieces of at most `num_bytes` together, from all members of a gzip file."""
    unpacker, packed = zlib.decompressobj(_GZIP), b""
    while num_bytes > 0:
        packed = packed or file.read(_READ)
        is_end = not packed
        piece = unpacker.decompress(packed, min(num_bytes, _PIECE))
        packed = unpacker.unconsumed_tail
        num_bytes -= len(piece)
        if piece:
            yield piece
        if unpacker.eof:
            packed = unpacker.unused_data
            if len(packed) < len(_GZIP_MAGIC):
                packed += file.read(_READ)
            if not packed.startswith(_GZIP_MAGIC):
                return
            unpacker = zlib.decompressobj(_GZIP)
        elif is_end and not piece:
            return


def inflated_size(file: IO[bytes], num_packed: int, most: int) -> int:
    """Return how many bytes a zlib stream unpacks to, counting no further than just above `most`.

    Args:
        file: Open where the stream begins.
        num_packed: Its length.
        most: Where counting may end.

    Raises:
        zlib.error: It is damaged.
    """
    unpacker, size, left = zlib.decompressobj(_ZLIB_OR_GZIP), 0, num_packed
    packed = b""
    while size <= most and not unpacker.eof:
        if not packed:
            packed = file.read(min(_READ, left))
            left -= len(packed)
        is_end = not packed
        piece = unpacker.decompress(packed, _PIECE)
        packed, size = unpacker.unconsumed_tail, size + len(piece)
        if is_end and not piece:
            break
    return size
