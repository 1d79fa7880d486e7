import json

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from factories import write_dicom_series, write_nifti_file, write_png
from scanlore.inference.write_mask import find_mask, write_label_names, write_mask
from scanlore.scans.read import read_scan


def labels_of(scan, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, 250, scan.shape).astype(dtype)


@pytest.mark.parametrize("axcodes", ["RAS", "LPS", "SAR", "IPL"])
@pytest.mark.parametrize("oblique", [False, True])
def test_volumes_keep_shape_affine_and_place(tmp_path, axcodes, oblique):
    source = write_nifti_file(tmp_path / "a.nii.gz", (5, 6, 7), (1.0, 2.0, 3.5), axcodes, oblique=oblique)
    scan = read_scan(source)
    labels = labels_of(scan)
    (tmp_path / "out").mkdir()
    assert find_mask(tmp_path / "out" / "a.b") is None
    path = write_mask(tmp_path / "out" / "a.b", labels, scan)
    assert find_mask(tmp_path / "out" / "a.b") == path == tmp_path / "out" / "a.b.nii.gz"
    mask, image = nib.load(path), nib.load(source)
    assert (mask.shape, mask.get_data_dtype(), mask.header.get_xyzt_units()[0]) == (image.shape, np.uint8, "mm")
    np.testing.assert_array_equal(mask.affine, image.affine)
    np.testing.assert_array_equal(read_scan(path).voxels[0], labels)
    assert [file.name for file in path.parent.iterdir()] == ["a.b.nii.gz"]


def test_series_become_a_volume(tmp_path):
    scan = read_scan(write_dicom_series(tmp_path / "s", oblique=True))
    labels = labels_of(scan, np.int16)
    write_mask(tmp_path / "s", labels, scan)
    again = read_scan(tmp_path / "s.nii.gz")
    np.testing.assert_array_equal(again.voxels[0], labels)
    np.testing.assert_allclose(again.affine, scan.affine, atol=1e-5)


@pytest.mark.parametrize(("dtype", "mode"), [(np.uint8, "L"), (np.int16, "I;16")])
def test_images_become_pictures_of_their_size(tmp_path, dtype, mode):
    scan = read_scan(write_png(tmp_path / "a.png", (20, 24)))
    labels = labels_of(scan, dtype)
    path = write_mask(tmp_path / "mask", labels, scan)
    assert path == find_mask(tmp_path / "mask") == tmp_path / "mask.png"
    with Image.open(path) as image:
        assert (image.size, image.mode) == ((24, 20), mode)
        np.testing.assert_array_equal(np.asarray(image), labels)


def test_names_of_labels(tmp_path):
    write_label_names(tmp_path, {0: "background", 2: "liver"})
    assert json.loads((tmp_path / "labels.json").read_text()) == {"0": "background", "2": "liver"}
