import numpy as np
import pytest

from scanlore.views.view import (
    View,
    box_map,
    centred_map,
    compose,
    flip_map,
    in_plane,
    quarter_turn_map,
    random_slice_map,
    rotation_matrix,
    slice_map,
)


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


@pytest.mark.parametrize("angles", [(0.3,), (0.3, -0.2, 0.9)])
def test_rotation_keeps_lengths_and_hands(angles):
    matrix = rotation_matrix(angles)
    np.testing.assert_allclose(matrix.T @ matrix, np.eye(len(matrix)), atol=1e-12)
    assert np.linalg.det(matrix) == pytest.approx(1)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_rotation_about_one_axis_leaves_it(axis):
    angles, unit = np.zeros(3), np.eye(3)
    angles[axis] = 0.4
    np.testing.assert_array_equal(rotation_matrix(angles) @ unit[axis], unit[axis])
    turned = rotation_matrix(angles) @ unit[(axis + 1) % 3]
    np.testing.assert_allclose(turned, np.cos(0.4) * unit[(axis + 1) % 3] + np.sin(0.4) * unit[(axis + 2) % 3])


def test_no_rotation_is_exactly_the_identity():
    np.testing.assert_array_equal(rotation_matrix(np.zeros(3)), np.eye(3))
    np.testing.assert_array_equal(rotation_matrix([0.0]), np.eye(2))


def test_centred_map_lays_the_middle_where_it_is_told():
    linear = np.array([[0.5, 0.1], [0.0, 2.0], [1.0, 0.0]])
    matrix = centred_map(linear, (5, 8), [3.0, 4.0, 5.0])
    np.testing.assert_allclose(apply(matrix, [2, 3.5]), [3, 4, 5])
    np.testing.assert_array_equal(matrix[:, :2], linear)


@pytest.mark.parametrize(("through", "axis"), [(0, 0), (1, 1), (None, 2)])
def test_random_slices_lie_in_the_middle_across_the_right_axis(through, axis):
    rng = np.random.default_rng(0)
    maps = [random_slice_map(rng, (40, 40, 40), through) for _ in range(200)]
    places = [matrix[axis, -1] for matrix in maps]
    assert 4 <= min(places) < 6
    assert 34 < max(places) < 36
    assert all(in_plane((0, 1, 2), matrix) == tuple(np.delete([0, 1, 2], axis)) for matrix in maps)
