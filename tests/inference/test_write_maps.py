import nibabel as nib
import numpy as np
import pytest

from factories import write_nifti_file, write_png
from scanlore.errors import DataError
from scanlore.inference.write_maps import write_colours, write_volumes
from scanlore.scans.read import read_scan


@pytest.fixture(params=["RAS", "PSL", "LIA"])
def scan(request, tmp_path):
    return read_scan(write_nifti_file(tmp_path / "a.nii", (5, 6, 7), axcodes=request.param, oblique=True))


def test_volumes_read_back_as_the_channels_of_a_scan_in_the_same_place(scan, tmp_path):
    values = np.random.default_rng(0).random((3, *scan.shape)).astype(np.float32)
    write_volumes(tmp_path / "out.nii.gz", iter(values), 3, scan)
    back = read_scan(tmp_path / "out.nii.gz")
    np.testing.assert_allclose(back.voxels, values, rtol=1e-3)
    np.testing.assert_array_equal(back.affine, scan.affine)
    image = nib.load(tmp_path / "out.nii.gz")
    assert image.shape == (5, 6, 7, 3)
    assert image.get_data_dtype() == np.float32
    np.testing.assert_allclose(image.affine, nib.load(tmp_path / "a.nii").affine, atol=1e-5)


def test_colours_are_rgb24_in_the_same_place(scan, tmp_path):
    rgb = np.zeros((*scan.shape, 3), np.uint8)
    rgb[0, 0, 0], rgb[-1, 0, 0] = (255, 1, 2), (3, 4, 5)
    write_colours(tmp_path / "out.nii.gz", rgb, scan)
    image = nib.load(tmp_path / "out.nii.gz")
    assert (image.shape, int(image.header["datatype"])) == ((5, 6, 7), 128)
    red = np.asarray(image.dataobj)["R"]
    corner = np.linalg.inv(image.affine) @ scan.affine @ (0, 0, 0, 1)
    assert red[tuple(np.round(corner[:3]).astype(int))] == 255
    assert red.sum() == 258


def test_an_image_has_no_place_for_them(tmp_path):
    scan = read_scan(write_png(tmp_path / "a.png", (4, 4)))
    with pytest.raises(DataError, match="2D image"):
        write_volumes(tmp_path / "out.nii.gz", [], 0, scan)


def test_a_failure_leaves_nothing(scan, tmp_path):
    def volumes():
        yield np.zeros(scan.shape, np.float32)
        raise OSError

    with pytest.raises(OSError):  # noqa: PT011 - raised above
        write_volumes(tmp_path / "out.nii.gz", volumes(), 2, scan)
    assert [path.name for path in tmp_path.iterdir()] == ["a.nii"]
