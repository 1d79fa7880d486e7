import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from scanlore.scans.intensity import LinearMap
from scanlore.views.oblique import oblique_box, sample_oblique
from scanlore.views.view import View, centred_map, compose, rotation_matrix, slice_map

NOISE = np.random.default_rng(0).integers(-500, 1500, (30, 28, 26)).astype(np.int16)


def turned(size, centre, angles=(0.4, -0.3, 0.5), step=1.0):
    return View(centred_map(step * rotation_matrix(angles[: 1 if len(size) == 2 else 3]), size, centre), size)


def expected(array, view, order=1):
    grid = np.stack(np.meshgrid(*map(np.arange, view.size), indexing="ij"), -1)
    places = np.moveaxis(grid @ view.matrix[:, :-1].T + view.matrix[:, -1], -1, 0)
    edges = np.array(array.shape).reshape(-1, *(1,) * len(view.size)) - 1
    return map_coordinates(array.astype(float), np.clip(places, 0, edges), order=order)


VIEWS = {
    "inside": turned((12, 11, 13), (15, 14, 13)),
    "beyond every edge": turned((50, 52, 49), (15, 14, 13)),
    "wholly outside": turned((9, 9, 9), (90, 14, -70)),
    "several tiles": turned((100, 4, 60), (15, 14, 13), step=0.3),
    "coarse": turned((10, 10, 10), (15, 14, 13), step=2.5),
    "upside down": turned((20, 20, 20), (15, 14, 13), angles=(2.0, 3.0, -2.5)),
    "slice": View(compose(slice_map(1, 9.0), turned((12, 14), (13, 11)).matrix), (12, 14)),
    "slice between voxels": View(compose(slice_map(2, 9.3), turned((40, 14), (13, 11)).matrix), (40, 14)),
}


@pytest.mark.parametrize("name", VIEWS)
def test_linear_is_scipys(name):
    found = sample_oblique(NOISE, VIEWS[name], "linear").numpy()
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected(NOISE, VIEWS[name]), atol=1e-3 * 2000)


@pytest.mark.parametrize("name", VIEWS)
def test_nearest_gives_voxels_of_the_scan(name):
    labels = (NOISE % 5).astype(np.uint8)
    found = sample_oblique(labels, VIEWS[name], "nearest").numpy()
    assert np.mean(found == expected(labels, VIEWS[name], order=0)) > 0.999
    assert set(np.unique(found)) <= set(range(5))


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 1, 1), (1, 2, 1), (1, 1, 2), (2, 2, 2), (1, 9, 9)])
@pytest.mark.parametrize("mode", ["linear", "nearest"])
def test_thin_blocks(shape, mode):
    view, block = turned((6, 6, 6), (np.array(shape) - 1) / 2), NOISE[tuple(slice(edge) for edge in shape)]
    found = sample_oblique(block, view, mode).numpy()
    assert np.mean(np.abs(found - expected(block, view, 1 if mode == "linear" else 0)) <= 2) > 0.98


@pytest.mark.parametrize("shape", [(30, 28), (1, 5), (5, 1)])
def test_image(shape):
    image = NOISE[: shape[0], : shape[1], 0]
    view = turned((40, 30), (14, 13), angles=(0.6,))
    np.testing.assert_allclose(sample_oblique(image, view, "linear"), expected(image, view), atol=2)


def test_intensities_are_mapped_and_clipped():
    view, scaling = VIEWS["inside"], LinearMap(0.01, -2.0, -1.0, 1.0)
    plain = sample_oblique(NOISE, view, "linear").numpy()
    found = sample_oblique(NOISE, view, "linear", scaling).numpy()
    np.testing.assert_allclose(found, np.clip(0.01 * plain - 2, -1, 1), atol=1e-5)


def test_a_constant_stays_exact():
    found = sample_oblique(np.full((9, 9, 9), 137, np.int16), VIEWS["beyond every edge"], "linear")
    np.testing.assert_allclose(found, 137, rtol=1e-6)


def test_box_holds_what_is_read():
    box = oblique_box(VIEWS["inside"], NOISE.shape)
    local = VIEWS["inside"].matrix.copy()
    local[:, -1] -= [part.start for part in box]
    inner = sample_oblique(np.ascontiguousarray(NOISE[box]), View(local, (12, 11, 13)), "linear")
    np.testing.assert_allclose(inner, sample_oblique(NOISE, VIEWS["inside"], "linear"), atol=0.5)
    assert NOISE[box].size < NOISE.size
    assert all(part.stop > part.start for part in oblique_box(VIEWS["wholly outside"], NOISE.shape))
