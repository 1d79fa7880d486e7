import numpy as np
import pytest

from factories import write_nifti_file, write_png
from scanlore.errors import DataError
from scanlore.scans.channels import grid_difference, read_channels
from scanlore.scans.read import read_scan


def test_files_become_channels(tmp_path):
    first = write_nifti_file(tmp_path / "a.nii", (5, 6, 7), seed=0)
    other = write_nifti_file(tmp_path / "b.nii", (5, 6, 7), seed=1, dtype="float32")
    scan = read_channels([first, other])
    assert scan.voxels.shape == (2, 5, 6, 7)
    for channel, path in zip(scan.voxels, (first, other), strict=True):
        np.testing.assert_array_equal(channel, read_scan(path).voxels[0])
    np.testing.assert_array_equal(scan.original.affine, read_scan(first).original.affine)


def test_one_file_keeps_its_own_channels(tmp_path):
    path = write_nifti_file(tmp_path / "a.nii", (5, 6, 7), channels=3)
    assert read_channels([path]).voxels.shape == (3, 5, 6, 7)


def test_another_axis_order_is_the_same_grid(tmp_path):
    first = write_nifti_file(tmp_path / "a.nii", (5, 6, 7))
    scan = read_scan(first)
    flipped = scan.voxels[0][::-1].transpose(2, 0, 1)
    import nibabel as nib

    affine = scan.affine @ np.array([[0, -1, 0, 4], [0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 1.0]])
    image = nib.Nifti1Image(flipped, affine)
    image.set_sform(affine, code="scanner")
    nib.save(image, tmp_path / "b.nii")
    both = read_channels([first, tmp_path / "b.nii"])
    np.testing.assert_array_equal(both.voxels[0], both.voxels[1])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"shape": (5, 6, 8)}, "5 x 6 x 8 and not 5 x 6 x 7, than the first"),
        ({"spacing": (1.0, 1.0, 1.1)}, r"another affine \(corners lie up to 0\.6 mm apart\) than the first"),
    ],
)
def test_another_grid_is_refused(tmp_path, change, words):
    first = write_nifti_file(tmp_path / "a.nii", (5, 6, 7))
    other = write_nifti_file(tmp_path / "b.nii", **{"shape": (5, 6, 7)} | change)
    with pytest.raises(DataError, match=words) as caught:
        read_channels([first, other])
    assert caught.value.where == other.as_posix()


def test_images_agree_by_shape(tmp_path):
    first, other = (read_scan(write_png(tmp_path / f"{seed}.png", seed=seed)) for seed in (0, 1))
    assert grid_difference(first, other) is None
    volume = read_scan(write_nifti_file(tmp_path / "v.nii", (20, 24, 1)))
    assert "another shape" in grid_difference(first, volume)


def test_equal_colours_stay_where_they_are_wanted(tmp_path):
    grey = np.arange(20 * 24, dtype=np.uint8).reshape(20, 24)
    path = write_png(tmp_path / "a.png", pixels=np.stack([grey] * 3, -1))
    assert read_channels([path]).num_channels == 1
    assert read_channels([path], num_channels=2).num_channels == 1
    np.testing.assert_array_equal(read_channels([path], num_channels=3).voxels, np.stack([grey] * 3))
