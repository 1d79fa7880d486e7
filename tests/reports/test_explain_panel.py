import io

import numpy as np
import pytest
from PIL import Image

from factories import write_nifti_file, write_png
from scanlore.inference.lattice import lattice_of
from scanlore.reports.explain_panel import BLACK, WHITE, Seen, attention_at, draw_heads, draw_panel, paint
from scanlore.reports.pca import Basis
from scanlore.scans.read import read_scan
from scanlore.views.view import box_map

BASIS = Basis(np.zeros(4), np.eye(4), np.full(4, 0.25), 0.0, True, np.zeros(3), np.ones(3))


def seen(scan, heads=2, start=0):
    """The half with high indices along the first axis is foreground and red; attention is on the other half."""
    ndim = scan.ndim
    box = box_map([start] + [0] * (ndim - 1), [scan.shape[0] - start, *scan.shape[1:]], (8,) * ndim)
    lattice = lattice_of([box], (8,) * ndim, (4,) * ndim)
    scores = np.zeros((4, *lattice.grid), np.float32)
    scores[0], scores[0, 2:], scores[1, 2:] = -1, 1, 1
    attention = np.zeros((heads, *lattice.grid), np.float32)
    attention[:, :2] = 0.1
    return Seen("m", scores, BASIS, attention if heads else None, lattice)


@pytest.fixture
def volume(tmp_path):
    return read_scan(write_nifti_file(tmp_path / "a.nii", (8, 12, 10)))


@pytest.fixture
def image(tmp_path):
    return read_scan(write_png(tmp_path / "a.png", (16, 20)))


def whole(scan):
    return [np.arange(size) for size in scan.shape]


def size_of(png):
    return Image.open(io.BytesIO(png)).size


@pytest.mark.parametrize("background", [BLACK, WHITE])
def test_foreground_has_colours_and_the_rest_none(volume, background):
    rgb = paint(seen(volume), whole(volume), background)
    assert (rgb[:4] == background).all()
    assert (rgb[6:] == (255, 1, 1)).all()  # never 0, which means background
    assert rgb.shape == (*volume.shape, 3)


def test_what_the_model_does_not_see_is_background(volume):
    one = seen(volume, start=2)
    one.scores[0] = 1
    assert not paint(one, whole(volume), BLACK)[:2].any()
    assert paint(one, whole(volume), BLACK)[2:].all()
    values = attention_at(one, one.attention[0], whole(volume))
    assert not values[:2].any()
    np.testing.assert_allclose(values[2:4], 0.1, rtol=1e-5)


def test_a_volume_has_a_row_for_the_scan_and_two_for_each_model(volume):
    one, two = draw_panel(volume, [seen(volume)]), draw_panel(volume, [seen(volume), seen(volume)])
    (width, height), (same, taller) = size_of(one), size_of(two)
    assert width == same
    assert (taller - 6) / (height - 6) == pytest.approx(5 / 3, abs=0.01)
    assert size_of(draw_panel(volume, [seen(volume, heads=0)]))[1] < height


def test_an_image_stands_beside_its_maps(image):
    one, two = draw_panel(image, [seen(image)]), draw_panel(image, [seen(image), seen(image)])
    assert size_of(two)[0] > size_of(one)[0]
    assert size_of(two)[1] == size_of(one)[1]


def test_planes_are_as_a_radiologist_sees_them(volume):
    # Red is where x is high: the patient's right, on the left of the coronal and axial planes
    pixels = np.asarray(Image.open(io.BytesIO(draw_panel(volume, [seen(volume, heads=0)])))).astype(int)
    row = pixels[pixels.shape[0] * 3 // 4]
    is_red = (row[:, 0] > 200) & (row[:, 1] < 60)
    is_white = (row > 250).all(1)
    assert is_white[-20]
    assert is_red.any()
    assert np.flatnonzero(is_red)[-1] < np.flatnonzero(is_white)[-1]


def test_every_head_is_drawn(volume, image):
    assert size_of(draw_heads(volume, seen(volume, heads=4)))[1] > size_of(draw_heads(volume, seen(volume)))[1]
    assert size_of(draw_heads(image, seen(image, heads=3)))[0] > size_of(draw_heads(image, seen(image)))[0]


def test_constant_maps_are_drawn(volume):
    one = seen(volume)
    one.attention[:] = 0
    one.scores[:] = 0
    assert draw_panel(volume, [one])
