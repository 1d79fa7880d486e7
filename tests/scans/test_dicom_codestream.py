import struct

import pytest

from scanlore.scans.dicom_codestream import stated_sizes

TABLE = b"\xfe\xff\x00\xe0\0\0\0\0"
JPEG = b"\xff\xd8\xff\xe0\0\x04ab\xff\xff\xc4\0\x02\xff\xc3" + struct.pack(">HBHHB", 11, 16, 20, 24, 1) + bytes(9)
JPEG_LS = b"\xff\xd8\xff\xf7" + struct.pack(">HBHHB", 11, 8, 7, 9, 3) + bytes(9)
SIZ = b"\xff\x4f\xff\x51" + struct.pack(">2H8IH", 41, 0, 34, 25, 10, 5, 24, 20, 0, 0, 3) + bytes(9)
BOXED = b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(40) + SIZ


def item(stream):
    return b"\xfe\xff\x00\xe0" + struct.pack("<I", len(stream)) + stream


@pytest.mark.parametrize(
    ("stream", "size"), [(JPEG, (20, 24, 1)), (JPEG_LS, (7, 9, 3)), (SIZ, (20, 24, 3)), (BOXED, (20, 24, 3))]
)
def test_size_of_a_stream(stream, size):
    assert list(stated_sizes(TABLE + item(stream) + b"\xfe\xff\xdd\xe0\0\0\0\0")) == [size]


def test_sizes_of_several_streams_and_their_further_pieces():
    value = TABLE + item(JPEG) + item(b"more of it") + item(JPEG_LS)
    assert list(stated_sizes(value)) == [(20, 24, 1), (7, 9, 3)]


@pytest.mark.parametrize(
    "stream", [b"", b"\xff", JPEG[:4], JPEG[:18], SIZ[:12], b"\xff\xd8\0\0\0", b"\xff\xd8\xff\xe0\0\0"]
)
def test_cut_streams_state_nothing(stream):
    assert list(stated_sizes(TABLE + item(stream))) == []


@pytest.mark.parametrize("value", [b"", b"\xfe\xff\x00", TABLE[:6], item(JPEG)[:5], b"junk" * 10])
def test_what_is_not_encapsulated_states_nothing(value):
    assert list(stated_sizes(value)) == []
