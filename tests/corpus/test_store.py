import os
import zlib

import blosc2
import numpy as np
import pytest

from scanlore.corpus.store import Pyramid, ShardWriter, _open_level, check_shard, checksum, encode, layout, shard_path
from scanlore.errors import DataError


def noise(shape, seed):
    return np.random.default_rng(seed).integers(-1000, 1000, shape).astype(np.int16)


def pyramid(root, offsets, shard=0):
    places = tuple((str(shard_path(root, shard)), offset) for offset in offsets)
    return Pyramid(((1, 1, 1),) * len(places), places, 1.0, 0.0)


@pytest.fixture
def written(tmp_path):
    """Two entries of two levels and one level in one file."""
    arrays = [noise((70, 40, 33), 0), noise((35, 20, 33), 1), noise((12, 9, 5), 2)]
    writer = ShardWriter(tmp_path)
    offsets = [writer.append([encode(arrays[0]), encode(arrays[1])]), writer.append([encode(arrays[2])])]
    writer.close()
    return tmp_path, arrays, offsets


def test_round_trip_at_offsets(written):
    root, arrays, offsets = written
    first, second = pyramid(root, offsets[0]), pyramid(root, offsets[1])
    assert [first.shape(0), first.shape(1), second.shape(0)] == [array.shape for array in arrays]
    for stored, level, array in ((first, 0, arrays[0]), (first, 1, arrays[1]), (second, 0, arrays[2])):
        np.testing.assert_array_equal(stored.read(level, (slice(None),) * 3), array)


def test_box_across_blocks_and_chunks(written):
    root, arrays, offsets = written
    box = (slice(30, 67), slice(5, 34), slice(31, 33))
    np.testing.assert_array_equal(pyramid(root, offsets[0]).read(0, box), arrays[0][box])


@pytest.mark.parametrize("shape", [(300, 1, 35), (50, 64, 31), (224, 70), (1, 1, 1), (40000,), (130, 129, 40)])
def test_blocks_cut_axes_evenly(shape):
    chunks, blocks = layout(shape)
    for edge, chunk, block in zip(shape, chunks, blocks, strict=True):
        assert -(-edge // block) * block - edge < -(-edge // block)
        assert chunk == edge or chunk % block == 0
    voxels = noise(shape, 0)
    found = blosc2.ndarray_from_cframe(encode(voxels))
    assert (found.chunks, found.blocks) == (chunks, blocks)
    np.testing.assert_array_equal(found[:], voxels)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float16", "int64"])
def test_kinds_of_numbers_come_back(dtype):
    voxels = noise((40, 33, 9), 0).astype(dtype)
    found = blosc2.ndarray_from_cframe(encode(np.asfortranarray(voxels)))
    assert found.dtype == voxels.dtype
    np.testing.assert_array_equal(found[:], voxels)


def test_image_round_trip(tmp_path):
    writer, image = ShardWriter(tmp_path), noise((70, 33), 0)
    offsets = writer.append([encode(image)])
    writer.close()
    np.testing.assert_array_equal(pyramid(tmp_path, offsets).read(0, (slice(None),) * 2), image)


def test_level_in_memory():
    array = noise((4, 5, 6), 0)
    stored = Pyramid(((1, 1, 1),), (array,), 1.0, 0.0)
    np.testing.assert_array_equal(stored.read(0, (slice(1, 3), slice(0, 5), slice(2, 3))), array[1:3, :, 2:3])


def test_same_voxels_give_the_same_bytes():
    assert encode(noise((20, 20, 20), 0)) == encode(noise((20, 20, 20), 0))


def test_order_in_memory_changes_no_byte():
    voxels = noise((140, 37, 70), 0)
    assert encode(np.asfortranarray(voxels)) == encode(voxels) == encode(voxels[::-1][::-1])


def test_checksum_is_that_of_all_frames_in_their_order():
    assert checksum([b"a", b"bc"]) == checksum([b"abc"]) == f"{zlib.crc32(b'abc'):08x}"
    assert checksum([b"bc", b"a"]) != checksum([b"abc"])
    assert len(checksum([b"\0"])) == 8


def test_writer_cuts_off_what_is_not_recorded(written):
    root, arrays, offsets = written
    end = offsets[0][1]
    writer = ShardWriter(root, 0, end)
    assert writer.append([encode(arrays[2] + 1)]) == [end]
    writer.close()
    assert shard_path(root, 0).stat().st_size == writer.end
    _open_level.cache_clear()
    np.testing.assert_array_equal(pyramid(root, [end]).read(0, (slice(None),) * 3), arrays[2] + 1)


def test_full_shard_starts_the_next(tmp_path, monkeypatch):
    monkeypatch.setattr("scanlore.corpus.store.SHARD_BYTES", 1000)
    writer, frames = ShardWriter(tmp_path), [encode(noise((12, 9, 5), 0)), encode(noise((6, 9, 5), 0))]
    places = [(writer.append(frames), writer.shard) for _ in range(2)]
    writer.close()
    assert places == [([0, len(frames[0])], 0), ([0, len(frames[0])], 1)]
    assert [shard_path(tmp_path, shard).stat().st_size for shard in (0, 1)] == [sum(map(len, frames))] * 2


@pytest.mark.parametrize("damage", ["missing", "truncated", "zeros", "noise"])
def test_damage_is_a_data_error_in_one_line(tmp_path, damage):
    writer = ShardWriter(tmp_path)
    ramp = np.broadcast_to(np.arange(40, dtype=np.int16), (40, 40, 40))
    offsets = writer.append([encode(ramp)])
    size = writer.end
    writer.close()
    path = shard_path(tmp_path, 0)
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        os.truncate(path, size // 2)
    else:
        middle = bytes(size // 2) if damage == "zeros" else np.random.default_rng(0).bytes(size // 2)
        with path.open("r+b") as file:
            file.seek(size // 4)
            file.write(middle)
    with pytest.raises(DataError) as error:
        pyramid(tmp_path, offsets).read(0, (slice(None),) * 3)
    assert "00000.b2s" in str(error.value)
    assert "\n" not in str(error.value)


def test_length_of_a_shard_is_checked_to_the_byte(tmp_path):
    writer = ShardWriter(tmp_path)
    (offset,) = writer.append([encode(noise((12, 9, 5), 0))])
    writer.append([encode(noise((6, 9, 5), 1))])
    writer.close()
    end = shard_path(tmp_path, 0).stat().st_size
    last = end - len(encode(noise((6, 9, 5), 1)))
    check_shard(tmp_path, 0, last)
    os.truncate(shard_path(tmp_path, 0), end - 1)
    check_shard(tmp_path, 0, offset)
    with pytest.raises(DataError, match=f"shard 00000 is damaged: {end - 1} bytes, the index needs {end} "):
        check_shard(tmp_path, 0, last)


def test_message_of_the_reader_is_our_own(tmp_path):
    shard_path(tmp_path, 0).parent.mkdir()
    shard_path(tmp_path, 0).write_bytes(b"short")
    with pytest.raises(DataError, match="shorter than the index says or damaged") as error:
        pyramid(tmp_path, [900]).shape(0)
    assert "blosc2" not in str(error.value)
