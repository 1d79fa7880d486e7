from pathlib import Path

import numpy as np
import pytest

from factories import label_volume, smooth_volume
from scanlore.corpus.label_maps import is_label_map, named_label

LABELS = label_volume((30, 32, 20))
IMAGE = (smooth_volume((30, 32, 20)) * 200).astype(np.uint8)


@pytest.mark.parametrize(
    "path",
    [
        "task/labelsTr/case_1.nii.gz",
        "masks/a.png",
        "s0001/segmentations/liver.nii.gz",
        "case1/labels/left/organ.nrrd",
        "BraTS_001_seg.nii.gz",
        "ct_torso_sm_totalseg.nii.gz",
        "sub-01_space-T1w_dseg.nii.gz",
        "a-seg.mha",
        "a_Labels.nii",
        "label001_mask.mgz",
        "aparc+aseg.mgz",
        "mask.nii",
        "seg_007.nii.gz",
    ],
)
def test_names_of_label_maps(path):
    assert named_label(Path(path))


@pytest.mark.parametrize(
    "path",
    [
        "imagesTr/case_1.nii.gz",
        "t1.nii.gz",
        "masked_t1.nii.gz",
        "segovia/a.nii",
        "case_mask_t1.nii",
        "labels/a/b/c.nii",
    ],
)
def test_names_of_images(path):
    assert not named_label(Path(path))


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "float32", "float64"])
def test_labels_are_labels_whatever_they_are_called(dtype):
    assert is_label_map(LABELS.astype(dtype), is_named=False)
    assert is_label_map(np.asfortranarray(LABELS.astype(dtype)), is_named=True)


@pytest.mark.parametrize("voxels", [IMAGE, IMAGE / 8.0, IMAGE // 32, 255 - IMAGE, IMAGE.astype(np.int16) - 40])
def test_images_are_images_whatever_they_are_called(voxels):
    assert not is_label_map(voxels, is_named=False)


def test_an_image_in_a_folder_of_masks_is_an_image():
    assert not is_label_map(IMAGE, is_named=True)
    assert not is_label_map(smooth_volume((30, 32, 20)), is_named=True)


def test_a_black_and_white_picture_is_a_mask_only_by_name():
    picture = np.where(LABELS[..., 10] > 0, 255, 0).astype(np.uint8)
    assert not is_label_map(picture, is_named=False)
    assert is_label_map(picture, is_named=True)


def test_a_constant_is_a_mask_only_by_name():
    empty = np.zeros((8, 9, 10), np.uint8)
    assert (is_label_map(empty, is_named=False), is_label_map(empty, is_named=True)) == (False, True)


def test_one_fraction_anywhere_makes_an_image(monkeypatch):
    monkeypatch.setattr("scanlore.corpus.label_maps.SAMPLE_VOXELS", 1000)
    voxels = LABELS.astype(np.float32)
    assert is_label_map(voxels, is_named=True)
    voxels[0, 0, 0] = 0.5
    assert not is_label_map(voxels, is_named=True)


def test_negative_and_huge_numbers_are_no_labels():
    for value in (-1, 40000):
        voxels = LABELS.astype(np.int32)
        voxels[0, 0, 0] = value
        assert not is_label_map(voxels, is_named=True)
