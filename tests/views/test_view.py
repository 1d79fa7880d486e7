import numpy as np
import pytest

from scanlore.views.view import View, box_map, compose, flip_map, quarter_turn_map, slice_map


def apply(matrix, points):
    return np.asarray(points) @ matrix[:, :-1].T + matrix[:, -1]


def gathered(array, matrix, size):
    """The array read at the places a map of whole voxels leads to."""
    places = apply(matrix, np.stack(np.meshgrid(*map(np.arange, size), indexing="ij"), -1))
    return array[tuple(np.rint(np.moveaxis(places, -1, 0)).astype(int))]


@pytest.mark.parametrize(("start", "length", "size"), [((0, 0), (8, 6), (8, 6)), ((1.5, 2), (3.2, 4), (5, 2))])
def test_box_map_goes_edge_to_edge(start, length, size):
    matrix = box_map(start, length, size)
    np.testing.assert_allclose(apply(matrix, [-0.5, -0.5]), np.array(start) - 0.5)
    np.testing.assert_allclose(apply(matrix, np.array(size) - 0.5), np.array(start) + length - 0.5)


def test_box_map_of_the_whole_is_the_identity():
    np.testing.assert_allclose(box_map([0, 0, 0], [4, 5, 6], (4, 5, 6)), np.eye(3, 4), atol=1e-12)


@pytest.mark.parametrize("axes", [(False, False), (True, False), (True, True)])
def test_flip_is_numpys(axes):
    array = np.arange(12).reshape(3, 4)
    flipped = gathered(array, flip_map((3, 4), np.array(axes)), (3, 4))
    np.testing.assert_array_equal(flipped, np.flip(array, np.flatnonzero(axes)))


@pytest.mark.parametrize("turns", range(5))
@pytest.mark.parametrize("plane", [(0, 1), (0, 2), (1, 2)])
def test_quarter_turn_is_numpys(plane, turns):
    array = np.arange(64).reshape(4, 4, 4)
    turned = gathered(array, quarter_turn_map((4, 4, 4), plane, turns), (4, 4, 4))
    np.testing.assert_array_equal(turned, np.rot90(array, turns, plane))


def test_compose_applies_the_inner_map_first_and_is_associative():
    rng = np.random.default_rng(0)
    a, b, c = rng.normal(size=(3, 4)), rng.normal(size=(3, 4)), rng.normal(size=(3, 3))
    points = rng.normal(size=(5, 2))
    np.testing.assert_allclose(apply(compose(b, c), points), apply(b, apply(c, points)))
    np.testing.assert_allclose(compose(compose(a, b), c), compose(a, compose(b, c)))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slice_map_lays_a_grid_across_an_axis(axis):
    array = np.arange(60).reshape(3, 4, 5)
    size = tuple(np.delete(array.shape, axis))
    np.testing.assert_array_equal(gathered(array, slice_map(axis, 2.0), size), np.take(array, 2, axis))


def test_steps_are_per_source_axis():
    turned = compose(box_map([0, 0, 0], [8, 4, 2], (4, 4, 4)), quarter_turn_map((4, 4, 4), (0, 1), 1))
    np.testing.assert_allclose(View(turned, (4, 4, 4)).steps, [2, 1, 0.5])
    np.testing.assert_allclose(View(slice_map(1, 3.0), (4, 4)).steps, [1, 0, 1])


def test_axis_aligned():
    turn = quarter_turn_map((4, 4), (0, 1), 1)
    angle = np.array([[0.8, -0.6, 0], [0.6, 0.8, 0]])
    assert View(turn, (4, 4)).is_axis_aligned()
    assert View(slice_map(0, 1.0), (4, 4)).is_axis_aligned()
    assert not View(angle, (4, 4)).is_axis_aligned()
