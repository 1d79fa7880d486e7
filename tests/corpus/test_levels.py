import numpy as np
import pytest

from scanlore.corpus.levels import SMALLEST_EDGE, build_label_levels, build_levels, level_factors


def test_cube_alternates_and_starts_in_plane():
    assert level_factors((64, 64, 64), 2) == [(1, 1, 1), (2, 2, 1), (2, 2, 2), (4, 4, 2), (4, 4, 4)]


def test_thick_slices_first_catch_up_in_plane():
    assert level_factors((20, 128, 120), 0) == [(1, 1, 1), (1, 2, 2), (1, 4, 4), (1, 8, 8), (2, 8, 8)]


def test_image_halves_both_axes():
    assert level_factors((40, 30), None) == [(1, 1), (2, 2), (4, 4)]


def test_edge_of_one_is_never_halved():
    assert level_factors((40, 1), None) == [(1, 1), (2, 1), (4, 1)]


@pytest.mark.parametrize("shape", [(37, 29, 23), (17, 17, 90), (16, 16, 16), (33, 1, 9)])
def test_chain_ends_when_no_axis_is_long(shape):
    ends = [np.ceil(np.array(shape) / factors) for factors in level_factors(shape, 2)]
    assert ends[-1].max() <= SMALLEST_EDGE
    assert all(end.max() > SMALLEST_EDGE for end in ends[:-1])


@pytest.mark.parametrize("dtype", [np.int16, np.float16])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_ramp_keeps_its_place_on_every_level(axis, dtype):
    shape = (39, 38, 21)
    ramp = np.broadcast_to(100 * np.arange(shape[axis]).reshape([-1 if a == axis else 1 for a in range(3)]), shape)
    factors = level_factors(shape, 2)
    for factor, level in zip(factors, build_levels(ramp.astype(dtype), factors), strict=True):
        assert level.dtype == dtype
        f, edge = factor[axis], shape[axis]
        assert level.shape == tuple(-(-size // step) for size, step in zip(shape, factor, strict=True))
        line = np.moveaxis(level, axis, 0).reshape(level.shape[axis], -1)
        assert np.all(line == line[:, :1])
        cells = np.arange(len(line))
        whole = (cells + 1) * f <= edge
        np.testing.assert_allclose(line[whole, 0], 100 * ((cells[whole] + 0.5) * f - 0.5), atol=0.5)
        # an odd last voxel is averaged with itself: the last cell stays among the voxels it covers
        assert np.all(line[~whole, 0] >= 100 * (cells[~whole] * f) - 0.5)
        assert np.all(line[~whole, 0] <= 100 * (edge - 1))


def test_levels_are_averaged_from_unrounded_values():
    voxels = np.zeros((32, 32, 32), np.int16)
    voxels[::4, ::4, ::4] = 25  # 25 / 64 rounds to 0 once, and would vanish or grow if rounded at every level
    factors = level_factors(voxels.shape, 2)
    *_, last = build_levels(voxels + 100, factors)
    assert factors[-1] == (2, 2, 2)
    assert set(np.unique(last)) == {100, 103}


@pytest.mark.parametrize("value", [-32768, -3, 32767])
@pytest.mark.parametrize("order", ["C", "F"])
def test_sums_of_the_largest_numbers_fit(value, order):
    voxels = np.full((65, 40, 33), value, np.int16, order=order)
    assert all(np.all(level == value) for level in build_levels(voxels, level_factors(voxels.shape, 0)))


def test_means_are_rounded_halves_up():
    voxels = np.tile(np.array([[-3, -2], [-2, -3]], np.int16), (10, 10))
    *_, last = build_levels(voxels, [(1, 1), (2, 1)])
    assert np.all(last == -2)


def test_float16_is_not_rounded_to_whole_numbers():
    voxels = np.tile(np.array([1, 2], np.float16), (20, 10))
    _, half = build_levels(voxels, [(1, 1), (1, 2)])
    assert np.all(half == 1.5)


def test_float16_sums_do_not_overflow():
    *_, last = build_levels(np.full((64, 64), 60000, np.float16), level_factors((64, 64), None))
    assert np.all(last == 60000)


def most_frequent(labels):
    """The reference: smallest of the most frequent, 0 last."""
    values, counts = np.unique(labels, return_counts=True)
    best = values[counts == counts.max()]
    return best[best > 0][0] if best.any() else 0


@pytest.mark.parametrize(("shape", "through"), [((37, 29, 18), 2), ((20, 45, 33), 0), ((50, 41), None)])
def test_labels_of_a_level_are_the_most_frequent_of_level_0(shape, through):
    labels = (np.random.default_rng(0).integers(0, 5, shape) ** 2).astype(np.uint8)
    labels[:9] = 0
    factors = level_factors(shape, through)
    levels = build_label_levels(labels, factors)
    assert [level.dtype for level in levels] == [np.uint8] * len(factors)
    for factor, level in zip(factors, levels, strict=True):
        for cell in np.ndindex(level.shape):
            covered = labels[tuple(slice(c * f, (c + 1) * f) for c, f in zip(cell, factor, strict=True))]
            assert level[cell] == most_frequent(covered)


def test_labels_above_255_and_an_empty_map():
    labels = np.zeros((40, 40), np.int16)
    assert not any(level.any() for level in build_label_levels(labels, level_factors(labels.shape, None)))
    labels[:, 20:] = 14175
    assert set(np.unique(build_label_levels(labels, level_factors(labels.shape, None))[-1])) == {0, 14175}
