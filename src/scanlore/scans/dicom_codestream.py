"""What compressed pixels say about their own size: decoders take memory by it, whatever the DICOM header says."""

from __future__ import annotations

import struct
from collections.abc import Iterator

Size = tuple[int, int, int]

_ITEM = b"\xfe\xff\x00\xe0"
_JPEG_START, _JPEG2000_START = b"\xff\xd8", b"\xff\x4f\xff\x51"
_FRAME_MARKERS = frozenset((*range(0xC0, 0xD0), 0xF7)) - {0xC4, 0xC8, 0xCC}
"""Of JPEG and JPEG-LS: what follows them is the size."""

_BARE_MARKERS = frozenset((0x01, *range(0xD0, 0xD9)))
"""Of JPEG: no length follows them."""

_LONGEST_PREFIX = 4096
"""Bytes of a JPEG 2000 file before its first marker."""


def stated_sizes(value: bytes) -> Iterator[Size]:
    """Yield `(rows, columns, colours)` of each JPEG, JPEG-LS or JPEG 2000 stream in encapsulated pixel data.

    Args:
        value: From the offset table on. Streams that state nothing are left out.
    """
    place = 0
    while value[place : place + 4] == _ITEM and place + 8 <= len(value):
        length = struct.unpack_from("<I", value, place + 4)[0]
        size = _stated_size(memoryview(value)[place + 8 : place + 8 + length])
        if size:
            yield size
        place += 8 + length


def _stated_size(stream: memoryview) -> Size | None:
    try:
        if stream[:2] == _JPEG_START:
            return _jpeg_size(stream)
        start = bytes(stream[:_LONGEST_PREFIX]).find(_JPEG2000_START)
        return None if start < 0 else _jpeg2000_size(stream[start:])
    except (struct.error, IndexError):
        return None


def _jpeg_size(stream: memoryview) -> Size | None:
    place = 2
    while stream[place] == 0xFF:
        marker = stream[place + 1]
        if marker in _FRAME_MARKERS:
            rows, columns, colours = struct.unpack_from(">HHB", stream, place + 5)
            return rows, columns, colours
        if marker == 0xFF:
            place += 1
        else:
            place += 2 + (0 if marker in _BARE_MARKERS else struct.unpack_from(">H", stream, place + 2)[0])
    return None


def _jpeg2000_size(stream: memoryview) -> Size:
    right, bottom, left, top = struct.unpack_from(">4I", stream, 8)
    return bottom - top, right - left, struct.unpack_from(">H", stream, 40)[0]
