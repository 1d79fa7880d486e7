import numpy as np
import pytest

from factories import smooth_volume
from scanlore.corpus.levels import build_levels, level_factors
from scanlore.corpus.quantise import quantise
from scanlore.inference.grid import lay_grid, memory_pyramid
from scanlore.scans.intensity import intensity_stats


@pytest.mark.parametrize("spacing", [None, (1.0, 1.0, 1.0), (1.00000006, 1.0, 1.0)])
def test_own_voxels(spacing):
    grid = lay_grid((5, 6, 7), spacing, (1.0, 1.0, 1.0))
    assert grid.shape == (5, 6, 7)
    np.testing.assert_array_equal(grid.steps, 1)
    np.testing.assert_array_equal(grid.origin, 0)
    np.testing.assert_array_equal(grid.coordinates(1, 6), np.arange(6))


def test_a_grid_of_another_spacing_is_central():
    grid = lay_grid((10, 10, 4), (1.0, 0.5, 3.0), (2.0, 2.0, 1.0))
    assert grid.shape == (5, 2, 12)
    np.testing.assert_allclose(grid.steps, [2, 4, 1 / 3])
    last = grid.origin + grid.steps * (np.array(grid.shape) - 1)
    np.testing.assert_allclose(grid.origin + last, np.array([10, 10, 4]) - 1)
    np.testing.assert_allclose(grid.coordinates(0, 10)[[0, 1, 2, -1]], [0, 0.25, 0.75, 4])


def test_a_thin_scan_keeps_a_point():
    assert lay_grid((3, 3, 1), (1.0, 1.0, 0.1), (1.0, 1.0, 1.0)).shape == (3, 3, 1)


def test_a_view_of_a_grid():
    view = lay_grid((10, 10), (1.0, 1.0), (2.0, 2.0)).view((-1, 2), (3, 4))
    np.testing.assert_allclose(view.matrix, [[2, 0, -1.5], [0, 2, 4.5]])
    assert view.size == (3, 4)


@pytest.mark.parametrize("dtype", ["int16", "float32", "uint16"])
@pytest.mark.parametrize("steps", [(1.0, 1.0, 1.0), (2.0, 0.5, 2.0), (5.0, 4.0, 4.5)])
def test_a_scan_in_memory_reads_as_from_a_store(dtype, steps, monkeypatch):
    monkeypatch.setattr("scanlore.inference.grid.SLAB_VOXELS", 1)
    voxels = (smooth_volume((33, 30, 35)) * (1000 if dtype != "float32" else 1)).astype(dtype)
    stats = intensity_stats(voxels)
    values, slope, intercept = quantise(voxels, stats)
    factors = level_factors(voxels.shape, 1)
    levels = list(build_levels(values, factors))
    found = memory_pyramid(voxels, 1, stats, np.array(steps))
    assert (found.slope, found.intercept) == (slope, intercept)
    box = (slice(1, 6), slice(0, 5), slice(2, 7))
    for index, factor in enumerate(found.factors):
        expected = levels[factors.index(factor)]
        assert found.shape(index) == expected.shape
        np.testing.assert_array_equal(found.read(index, box), expected[box])
    assert len(found.factors) == (1 if steps == (1.0, 1.0, 1.0) else 2)


def test_integers_are_not_copied():
    voxels = np.zeros((20, 20, 20), np.int16)
    pyramid = memory_pyramid(voxels, 2, intensity_stats(voxels), np.ones(3))
    assert np.shares_memory(pyramid.read(0, (slice(0, 3),) * 3), voxels)
