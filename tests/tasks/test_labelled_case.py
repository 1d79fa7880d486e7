from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from factories import label_volume, write_mask, write_nifti_file, write_png
from scanlore.corpus.prepare import content_id
from scanlore.errors import DataError
from scanlore.scans.read import read_scan
from scanlore.tasks.labelled_case import content_ids, read_case, read_mask, read_mask_values
from scanlore.tasks.segmentation import SegmentationCase, SegmentationTask

LABELS = {0: "background", 1: "body", 2: "blob"}
SHAPE = (12, 14, 10)


def task_of(case, channels=("MRI",), **facts):
    return SegmentationTask("t", (case,), LABELS, channels, **facts)


def read(image, mask, channels=("MRI",), **facts):
    images = image if isinstance(image, tuple) else (image,)
    case = SegmentationCase("a", images, mask)
    return read_case(case, task_of(case, channels, **facts))


def test_volume(tmp_path):
    labelled = read(write_nifti_file(tmp_path / "a.nii"), write_mask(tmp_path / "m.nii"))
    assert labelled.scan.shape == labelled.mask.shape == SHAPE
    assert labelled.mask.dtype == np.uint8
    np.testing.assert_array_equal(labelled.mask, label_volume(SHAPE))


def test_scan_and_mask_may_be_stored_in_different_orders(tmp_path):
    labels = label_volume(SHAPE)
    image = write_nifti_file(tmp_path / "a.nii", voxels=labels * 100)
    image_affine = read_scan(image).affine
    mask = write_mask(tmp_path / "m.nii", voxels=labels[::-1, :, ::-1].transpose(2, 0, 1), axcodes="ILA")
    _shift_to(mask, image_affine)
    labelled = read(image, mask)
    np.testing.assert_array_equal(labelled.mask * 100, labelled.scan.voxels[0])


def _shift_to(path, affine_ras):
    """Move a file so that its RAS+ grid begins where another does."""
    stored, shift = nib.load(path, mmap=False), affine_ras[:3, 3] - read_scan(path).affine[:3, 3]
    affine = stored.affine.copy()
    affine[:3, 3] += shift
    image = nib.Nifti1Image(np.asarray(stored.dataobj), affine)
    image.header.set_xyzt_units("mm")
    nib.save(image, path)


def test_image(tmp_path):
    labelled = read(write_png(tmp_path / "a.png"), write_mask(tmp_path / "m.png", (20, 24)))
    assert labelled.scan.spacing is None
    np.testing.assert_array_equal(labelled.mask, label_volume((20, 24)))


def test_stored_values_become_class_numbers(tmp_path):
    mask = write_png(tmp_path / "m.png", pixels=label_volume((20, 24)) // 2 * np.uint8(255))
    labelled = read(write_png(tmp_path / "a.png"), mask, index_of={0: 0, 255: 1})
    np.testing.assert_array_equal(labelled.mask, label_volume((20, 24)) // 2)


def test_many_classes_need_more_bits(tmp_path):
    mask = write_nifti_file(tmp_path / "m.nii", voxels=np.arange(1680).reshape(SHAPE) % 300, dtype="int16")
    labels = read_mask(mask, read_scan(mask), {value: value for value in range(300)})
    assert labels.dtype == np.int16
    assert labels.max() == 299


def test_whole_numbers_stored_as_floats(tmp_path):
    labelled = read(write_nifti_file(tmp_path / "a.nii"), write_mask(tmp_path / "m.nii", dtype="float32"))
    np.testing.assert_array_equal(labelled.mask, label_volume(SHAPE))


def test_ignored_voxels_are_known(tmp_path):
    mask = write_mask(tmp_path / "m.nii", voxels=np.full(SHAPE, 3))
    assert read(write_nifti_file(tmp_path / "a.nii"), mask, ignore=3).mask.max() == 3


def test_without_mask(tmp_path):
    assert read(write_nifti_file(tmp_path / "a.nii"), None).mask is None


def test_channels(tmp_path):
    files = tuple(write_nifti_file(tmp_path / f"{seed}.nii", seed=seed) for seed in range(2))
    together = write_nifti_file(tmp_path / "both.nii", channels=2)
    for images in (files, together):
        assert read(images, write_mask(tmp_path / "m.nii"), ("T1", "T2")).scan.num_channels == 2


def test_a_grey_picture_among_colours(tmp_path):
    grey = np.repeat(label_volume((20, 24))[..., None] * 90, 3, axis=-1)
    labelled = read(write_png(tmp_path / "a.png", pixels=grey), None, ("R", "G", "B"))
    assert labelled.scan.num_channels == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shape": (12, 14, 9)}, "the mask has another shape"),
        ({"spacing": (1.0, 1.0, 1.1)}, "the mask has another affine"),
        (
            {"voxels": np.full(SHAPE, 7)},
            r"m\.nii: the mask holds 7, which the label map does not know .*known: 0, 1, 2",
        ),
        ({"voxels": np.full(SHAPE, -1), "dtype": "int16"}, "holds -1, which"),
        ({"voxels": np.full(SHAPE, 1e5), "dtype": "int32"}, "holds 100000, which"),
        ({"voxels": np.full(SHAPE, 0.5), "dtype": "float32"}, r"holds 0\.5, which is no whole number"),
        ({"voxels": np.array([1, np.nan] * 840).reshape(SHAPE), "dtype": "float32"}, "not finite"),
        ({"voxels": np.ones((*SHAPE, 2))}, "the mask has 2 channels"),
    ],
)
def test_refused_masks(tmp_path, changes, message):
    image = write_nifti_file(tmp_path / "a.nii")
    mask = write_mask(tmp_path / "m.nii", changes.pop("shape", SHAPE), **changes)
    with pytest.raises(DataError, match=message) as caught:
        read(image, mask)
    assert "\n" not in str(caught.value)


def test_refused_channels(tmp_path):
    image = write_nifti_file(tmp_path / "a.nii")
    with pytest.raises(DataError, match="has 1 channel, the task 2: T1, T2"):
        read(image, write_mask(tmp_path / "m.nii"), ("T1", "T2"))
    with pytest.raises(DataError, match="has 2 channels, the task 1"):
        read((image, image), write_mask(tmp_path / "m.nii"))


def test_unreadable_files(tmp_path):
    (tmp_path / "broken.nii").write_bytes(b"x")
    with pytest.raises(DataError, match=r"broken\.nii"):
        read(tmp_path / "broken.nii", None)
    with pytest.raises(DataError, match=r"broken\.nii"):
        read(write_nifti_file(tmp_path / "a.nii"), tmp_path / "broken.nii")
    with pytest.raises(DataError, match="JPEG changes"):
        read_mask_values(Path("m.jpg"))


def test_values_of_a_mask(tmp_path):
    assert read_mask_values(write_mask(tmp_path / "m.nii")) == [0, 1, 2]
    with pytest.raises(DataError, match="holds -3 to 2"):
        read_mask_values(write_mask(tmp_path / "n.nii", voxels=np.arange(1680).reshape(SHAPE) % 6 - 3, dtype="int16"))


def test_content_ids_are_those_of_a_corpus(tmp_path):
    image = write_nifti_file(tmp_path / "a.nii", channels=2)
    expected = tuple(content_id(channel) for channel in read_scan(image).voxels)
    assert content_ids(SegmentationCase("a", (image,), None)) == expected
