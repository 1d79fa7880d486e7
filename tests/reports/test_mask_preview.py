import io

import numpy as np
import pytest
from PIL import Image

from scanlore.reports.mask_preview import mask_preview

NAMES = {0: "background", 1: "one", 2: "two"}


def pixels(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def is_coloured(picture):
    return np.ptp(picture, axis=-1) > 60


def halves(png):
    """The scan, and the scan with its labels, without the line of names below."""
    picture = pixels(png)[:-40]
    return picture[: len(picture) // 2], picture[len(picture) // 2 :]


@pytest.mark.parametrize("shape", [(20, 24, 16), (20, 24)])
def test_labels_are_coloured_in_the_second_row_alone(shape):
    labels = np.zeros(shape, np.uint8)
    labels[tuple(slice(4, 9) for _ in shape)] = 1
    above, below = halves(mask_preview(np.random.default_rng(0).normal(size=shape), labels, NAMES))
    assert is_coloured(below).sum() > 1000
    assert is_coloured(above).sum() < 500  # the letters


def test_the_planes_with_most_labels_are_drawn():
    labels = np.zeros((20, 24, 16), np.uint8)
    labels[1, 2, 3] = 2
    assert is_coloured(halves(mask_preview(np.zeros(labels.shape), labels, NAMES))[1]).any()


def test_spacing_gives_true_proportions():
    labels = np.zeros((10, 40), np.uint8)
    flat, tall = (pixels(mask_preview(labels, labels, NAMES, spacing)) for spacing in ((1.0, 1.0), (2.0, 1.0)))
    assert flat.shape[1] == tall.shape[1]
    assert tall.shape[0] - flat.shape[0] == pytest.approx(2 * 225, abs=2)  # two rows, a quarter of 9 inches each


@pytest.mark.parametrize("value", [0, 7])
def test_a_constant_scan_without_labels_can_be_drawn(value):
    voxels = np.full((6, 7, 8), value, np.int16)
    assert not is_coloured(halves(mask_preview(voxels, np.zeros_like(voxels), NAMES))[1]).any()


def test_the_patients_right_is_on_the_left():
    labels = np.zeros((20, 20, 20), np.uint8)
    labels[17:, 8:12, 8:12] = 1  # far to the patient's right, in RAS+ order
    below = is_coloured(halves(mask_preview(np.zeros(labels.shape), labels, NAMES))[1])
    axial = below[:, 2 * below.shape[1] // 3 :]
    assert axial[:, : axial.shape[1] // 2].sum() > 0 == axial[:, axial.shape[1] // 2 :].sum()
