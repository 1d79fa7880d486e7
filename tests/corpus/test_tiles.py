import numpy as np
import pytest

from scanlore.corpus.tiles import c_order, forwards


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2), (0, 2, 1), (2, 0, 1), (1, 2, 0)])
@pytest.mark.parametrize("steps", [(1, 1, 1), (-1, 1, -1)])
def test_values_stay_in_their_places(order, steps):
    voxels = np.arange(7 * 20 * 33).reshape(7, 20, 33).transpose(order)[tuple(slice(None, None, s) for s in steps)]
    turned = c_order(voxels)
    np.testing.assert_array_equal(turned, voxels)
    assert turned.flags.c_contiguous


def test_images_and_lines():
    image = np.arange(35).reshape(5, 7).T
    np.testing.assert_array_equal(c_order(image), image)
    np.testing.assert_array_equal(c_order(np.arange(9)[::2]), [0, 2, 4, 6, 8])


def test_an_axis_of_one_voxel_and_a_repeated_value():
    for voxels in (np.zeros((1, 5, 4)).T, np.broadcast_to(np.arange(3.0), (4, 2, 3)), np.zeros((0, 3), order="F")):
        np.testing.assert_array_equal(c_order(voxels), voxels)


def test_what_is_in_order_is_not_copied():
    voxels = np.zeros((3, 4, 5))
    assert c_order(voxels) is voxels


def test_forwards_turns_what_runs_backwards():
    voxels = np.arange(24).reshape(2, 3, 4)
    np.testing.assert_array_equal(forwards(voxels[::-1, :, ::-1]), voxels)
    assert forwards(voxels[:, ::-1].T).flags.f_contiguous
