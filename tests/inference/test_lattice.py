import numpy as np
import pytest

from scanlore.inference.lattice import at_voxels, is_seen, lattice_of, seen_share
from scanlore.views.view import box_map, compose, slice_map


def axes(*shape):
    return [np.arange(size) for size in shape]


def test_cells_of_a_stretched_box():
    lattice = lattice_of([box_map([2, 0, 4], [8, 6, 4], (16, 16, 16))], (16, 16, 16), (4, 2, 2))
    assert lattice.grid == (4, 2, 2)
    np.testing.assert_allclose(lattice.centres[0], [2.5, 4.5, 6.5, 8.5])
    np.testing.assert_allclose((lattice.low[0], lattice.high[0]), (1.5, 9.5))
    np.testing.assert_allclose((lattice.low[2], lattice.high[2]), (3.5, 7.5))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_cells_of_slices(axis):
    inner = box_map([0, 0], [6, 8], (12, 12))
    lattice = lattice_of([compose(slice_map(axis, place), inner) for place in (1, 2, 5)], (12, 12), (3, 4))
    np.testing.assert_array_equal(lattice.centres[axis], [1, 2, 5])
    assert (lattice.low[axis], lattice.high[axis]) == (0, 6)
    plane = [other for other in range(3) if other != axis]
    assert [lattice.grid[other] for other in plane] == [3, 4]
    np.testing.assert_allclose(lattice.centres[plane[1]], [0.5, 2.5, 4.5, 6.5])


def test_a_single_slice_covers_itself():
    lattice = lattice_of([slice_map(2, 0.0)], (4, 4), (2, 2))
    assert is_seen(lattice, axes(4, 4, 1)).all()


def test_a_ramp_is_interpolated_exactly_between_the_outer_centres():
    lattice = lattice_of([box_map([0, 0, 0], [12, 8, 6], (12, 12, 12))], (12, 12, 12), (4, 4, 3))
    x, y, z = np.meshgrid(*lattice.centres, indexing="ij")
    out = at_voxels((x - 2 * y + 3 * z)[None].astype(np.float32), lattice, axes(12, 8, 6))[0]
    x, y, z = np.meshgrid(*axes(12, 8, 6), indexing="ij")
    inner = (slice(1, -1), slice(1, -1), slice(1, -1))
    np.testing.assert_allclose(out[inner], (x - 2 * y + 3 * z)[inner], atol=1e-4)
    assert out[0, 0, 0] == out.min() or out[0, -1, 0] == out.min()


def test_a_part_of_the_voxels_is_the_part_of_all():
    lattice = lattice_of([box_map([0, 0], [9, 7], (8, 8))], (8, 8), (4, 2))
    values = np.random.default_rng(0).random((2, 4, 2), np.float32)
    part = at_voxels(values, lattice, [np.array([3]), np.arange(7)])
    np.testing.assert_array_equal(part[:, 0], at_voxels(values, lattice, axes(9, 7))[:, 3])


def test_voxels_outside_the_box_are_not_seen():
    lattice = lattice_of([box_map([2, 0], [4, 8], (8, 8))], (8, 8), (2, 2))
    assert is_seen(lattice, axes(8, 8)).all(1).tolist() == [False, False, True, True, True, True, False, False]
    assert seen_share(lattice, (8, 8)) == 0.5
