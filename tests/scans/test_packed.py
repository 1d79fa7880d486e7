import gzip
import io
import zlib

import numpy as np
import pytest

from damaged import zeros_packed
from scanlore.errors import DataError
from scanlore.scans.packed import inflated_size, read_start, read_voxels

VALUES = np.arange(600, dtype=">i2").reshape(5, 10, 12)


@pytest.fixture(params=["a.bin", "a.gz", "members.gz"])
def path(request, tmp_path):
    content = b"head" + VALUES.tobytes("F")
    file = tmp_path / request.param
    parts = [content[:100], content[100:]] if file.stem == "members" else [content]
    file.write_bytes(content if file.suffix == ".bin" else b"".join(map(gzip.compress, parts)))
    return file


def test_voxels_behind_an_offset(path):
    voxels = read_voxels(path, 4, ">i2", (5, 10, 12))
    assert voxels.dtype == np.int16
    np.testing.assert_array_equal(voxels, VALUES)
    assert read_start(path, 6) == b"head\0\0"
    assert len(read_start(path, 10**6)) == 1204


@pytest.mark.parametrize("shape", [(5, 10, 13), (10**9, 10**9)])
def test_more_than_there_is(path, shape):
    with pytest.raises(DataError, match="truncated"):
        read_voxels(path, 4, ">i2", shape)


def test_padding_behind_a_gzip_file_does_not_matter(tmp_path):
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"words") + bytes(64))
    assert read_voxels(tmp_path / "a.gz", 1, "u1", (4,)).tobytes() == b"ords"


def test_no_more_is_unpacked_than_asked_for(tmp_path):
    (tmp_path / "a.gz").write_bytes(zeros_packed(1 << 28, 31, b"words"))
    assert read_voxels(tmp_path / "a.gz", 0, "u1", (5,)).tobytes() == b"words"


def test_size_of_a_stream():
    packed = zlib.compress(bytes(5000))
    assert inflated_size(io.BytesIO(packed), len(packed), 10**6) == 5000
    assert inflated_size(io.BytesIO(packed[:-8]), len(packed) - 8, 10**6) <= 5000
    bomb = zeros_packed(1 << 28, 15)
    assert 100 < inflated_size(io.BytesIO(bomb), len(bomb), 100) < 10**7
    with pytest.raises(zlib.error):
        inflated_size(io.BytesIO(b"words"), 5, 100)
