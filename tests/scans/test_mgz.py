import gzip

import nibabel as nib
import numpy as np
import pytest

from factories import affine_of
from scanlore.errors import DataError
from scanlore.scans.mgz import mgz_header, read_mgz

VOXELS = np.arange(60).reshape(3, 4, 5)


@pytest.mark.parametrize("name", ["a.mgz", "a.mgh"])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "float32"])
def test_voxels_and_affine_are_exact(tmp_path, name, dtype):
    image = nib.MGHImage(VOXELS.astype(dtype), affine_of("LIA", (1.0, 1.5, 2.0), oblique=True))
    nib.save(image, tmp_path / name)
    scan = read_mgz(tmp_path / name)
    np.testing.assert_array_equal(scan.original.affine, nib.load(tmp_path / name).affine)
    assert scan.original.axes == ((0, -1), (2, -1), (1, 1))
    np.testing.assert_array_equal(scan.voxels[0], VOXELS[::-1, ::-1].transpose(0, 2, 1)[:, :, ::1][:, :, ::1])
    header = mgz_header(tmp_path / name)
    assert (header.format, header.shape, header.orientation, header.dtype) == ("mgz", (3, 4, 5), "LIA", dtype)


def test_frames_are_channels(tmp_path):
    frames = np.arange(120, dtype=np.float32).reshape(3, 4, 5, 2)
    nib.save(nib.MGHImage(frames, affine_of()), tmp_path / "a.mgz")
    np.testing.assert_array_equal(read_mgz(tmp_path / "a.mgz").voxels, np.moveaxis(frames, -1, 0))


@pytest.fixture
def unoriented(tmp_path):
    nib.save(nib.MGHImage(VOXELS.astype("uint8"), affine_of("RAS", (1.0, 2.0, 3.0))), tmp_path / "a.mgz")
    content = bytearray(gzip.decompress((tmp_path / "a.mgz").read_bytes()))
    content[28:30] = bytes(2)
    (tmp_path / "a.mgz").write_bytes(gzip.compress(content))
    return tmp_path / "a.mgz"


def test_no_orientation_is_made_up(unoriented):
    for read in (read_mgz, mgz_header):
        with pytest.raises(DataError, match="no geometry: the RAS flag is not set"):
            read(unoriented)
    assert read_mgz(unoriented, (4.0, 5.0, 6.0)).spacing == (4.0, 5.0, 6.0)


def test_a_cut_file_is_one_line(tmp_path):
    nib.save(nib.MGHImage(VOXELS.astype("uint8"), affine_of()), tmp_path / "a.mgh")
    content = (tmp_path / "a.mgh").read_bytes()
    for length, words in ((50, "ends within its header"), (300, "truncated: 300 bytes where 344")):
        (tmp_path / "a.mgh").write_bytes(content[:length])
        with pytest.raises(DataError, match=words):
            mgz_header(tmp_path / "a.mgh")
