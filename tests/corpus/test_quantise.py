import numpy as np
import pytest

from scanlore.corpus.quantise import quantise
from scanlore.scans.intensity import intensity_stats


def restored(voxels):
    values, slope, intercept = quantise(voxels, intensity_stats(voxels))
    assert values.dtype == np.int16
    return values * slope + intercept, slope


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [
        ("uint8", 0, 255),
        ("int16", -1024, 3071),
        ("uint16", 0, 65535),
        ("uint16", 20000, 65000),
        ("int32", -40000, 20000),
    ],
)
def test_whole_numbers_are_exact(dtype, low, high):
    voxels = np.linspace(low, high, 1000).round().astype(dtype).reshape(10, 10, 10)
    values, slope = restored(voxels)
    assert slope == 1
    np.testing.assert_array_equal(values, voxels)


def test_whole_numbers_stored_as_floats_are_exact():
    voxels = np.arange(1000, dtype=np.float32).reshape(10, 10, 10) - 300
    np.testing.assert_array_equal(restored(voxels)[0], voxels)


def test_floats_are_within_half_a_step():
    voxels = np.random.default_rng(0).uniform(-3, 5, (10, 11, 12)).astype(np.float32)
    values, slope = restored(voxels)
    assert slope <= 8 / 65535 * 1.001
    np.testing.assert_allclose(values, voxels, atol=slope * 0.501)


def test_wide_whole_numbers_are_within_half_a_step():
    voxels = np.random.default_rng(0).integers(0, 10**6, (10, 11, 12)).astype(np.int32)
    values, slope = restored(voxels)
    assert slope > 1
    np.testing.assert_allclose(values, voxels, atol=slope * 0.501)


def test_hot_voxel_does_not_eat_the_range():
    voxels = np.random.default_rng(0).uniform(0, 1, (20, 20, 20)).astype(np.float32)
    voxels[0, 0, 0] = 1e6
    values, slope = restored(voxels)
    assert slope < 3 / 65535
    assert 1 < values[0, 0, 0] == values.max() < 2
    np.testing.assert_allclose(values[1:], voxels[1:], atol=slope * 0.501)


def test_a_small_object_in_an_empty_field_of_view_stays():
    voxels = np.zeros((60, 60, 60), np.float32)
    voxels[30, 30, 30] = 0.5
    values, slope, intercept = quantise(voxels, intensity_stats(voxels))
    assert (values * slope + intercept)[30, 30, 30] == pytest.approx(0.5)
    assert (values * slope + intercept)[0, 0, 0] == pytest.approx(0.0, abs=1e-6)


def test_a_constant_is_kept():
    values, slope, intercept = quantise(np.full((3, 4, 5), 0.1), intensity_stats(np.full((3, 4, 5), 0.1)))
    np.testing.assert_allclose(values * slope + intercept, 0.1)


def test_int16_is_not_copied():
    voxels = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    assert np.shares_memory(quantise(voxels, intensity_stats(voxels))[0], voxels)
