import numpy as np
import pytest
import torch

from scanlore.views.outside import fill_outside, is_inside
from scanlore.views.view import View, box_map, centred_map, compose, flip_map, rotation_matrix, slice_map


def outside_of(view, shape):
    values = torch.zeros(view.size)
    fill_outside(values, view, shape, 1.0)
    return values.numpy() == 1


def expected(view, shape):
    grid = np.stack(np.meshgrid(*map(np.arange, view.size), indexing="ij"), -1)
    places = grid @ view.matrix[:, :-1].T + view.matrix[:, -1]
    return ((places < -0.5 - 1e-6) | (places > np.array(shape) - 0.5 + 1e-6)).any(-1)


@pytest.mark.parametrize(
    ("matrix", "size", "shape"),
    [
        (box_map([-3, 2, -1], [12, 4, 9], (12, 4, 9)), (12, 4, 9), (8, 7, 6)),
        (box_map([-3, 2, -1], [12, 4, 9], (5, 9, 11)), (5, 9, 11), (8, 7, 6)),
        (centred_map(rotation_matrix([0.4, -0.3, 0.5]), (9, 9, 9), [3.0, 4.0, 2.0]), (9, 9, 9), (7, 8, 6)),
        (centred_map(rotation_matrix([0.7]), (9, 12), [3.0, 4.0]), (9, 12), (7, 8)),
        (slice_map(0, 9.0), (3, 4), (7, 8, 6)),
        (slice_map(2, 3.0), (9, 9), (7, 8, 6)),
        (compose(np.eye(3, 4), flip_map((9, 9, 9), np.array([True, False, True]))), (9, 9, 9), (7, 8, 6)),
    ],
)
def test_points_behind_an_edge_are_filled(matrix, size, shape):
    view = View(matrix, size)
    assert expected(view, shape).any()
    np.testing.assert_array_equal(outside_of(view, shape), expected(view, shape))


def test_points_on_the_edge_are_inside():
    view = View(np.array([[1.0, -0.5], [0.0, 0.0]])[:1], (5,))
    assert is_inside(view, (4,))
    assert not is_inside(view, (3,))
    np.testing.assert_array_equal(outside_of(view, (3,)), [False, False, False, False, True])


def test_view_wholly_outside():
    assert outside_of(View(box_map([40, 0], [4, 4], (4, 4)), (4, 4)), (8, 8)).all()
