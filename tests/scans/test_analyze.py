import nibabel as nib
import numpy as np
import pytest

from scanlore.errors import DataError
from scanlore.scans.analyze import analyze_header, read_analyze

VOXELS = np.arange(60, dtype=np.int16).reshape(3, 4, 5)


@pytest.fixture
def pair(tmp_path):
    nib.save(nib.AnalyzeImage(VOXELS, np.diag([2.0, 3, 4, 1])), tmp_path / "a.hdr")
    return tmp_path / "a.hdr", tmp_path / "a.img"


def test_without_an_assumption_it_is_refused(pair):
    for read in (read_analyze, analyze_header):
        with pytest.raises(DataError, match=r"no geometry: Analyze files state no orientation .*--assume-spacing"):
            read(*pair)


def test_voxels_and_sizes_as_stated(pair):
    scan = read_analyze(*pair, "header")
    np.testing.assert_array_equal(scan.voxels[0], VOXELS)
    assert scan.spacing == (2.0, 3.0, 4.0)
    assert scan.problems == ("spacing assumed: 2 x 3 x 4 mm, axes taken as right, anterior, superior",)
    header = analyze_header(*pair, (1.0, 1.0, 5.0))
    assert (header.format, header.shape, header.spacing, header.dtype) == ("analyze", (3, 4, 5), (1, 1, 5), "int16")


def test_slope_of_spm(tmp_path):
    image = nib.Spm2AnalyzeImage(VOXELS.astype(np.float32) / 2, np.eye(4))
    image.set_data_dtype(np.int16)
    nib.save(image, tmp_path / "a.hdr")
    scan = read_analyze(tmp_path / "a.hdr", tmp_path / "a.img", "header")
    np.testing.assert_allclose(scan.voxels[0], VOXELS / 2, atol=1e-3)


def test_cut_voxels(pair):
    pair[1].write_bytes(pair[1].read_bytes()[:-1])
    with pytest.raises(DataError, match="truncated: 119 bytes where 120 are promised"):
        read_analyze(*pair, "header")
