import numpy as np
import pytest

from scanlore.corpus.quantise import as_labels, quantise
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


def test_a_hot_spot_of_a_few_times_the_range_is_kept():
    voxels = np.random.default_rng(0).uniform(0, 1, (20, 20, 20)).astype(np.float32)
    voxels[0, 0, 0] = 9.5
    values, slope = restored(voxels)
    np.testing.assert_allclose(values, voxels, atol=slope * 0.501)


@pytest.mark.parametrize("hot", [40.0, 1e4, 1e6, -1e6])
@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_a_hot_voxel_neither_eats_the_range_nor_is_lost(hot, offset):
    voxels = np.random.default_rng(0).uniform(-0.1, 1, (20, 20, 20)) + offset
    voxels[0, 0, 0] = hot
    values, slope, intercept = quantise(voxels, intensity_stats(voxels))
    assert values.dtype == np.float16
    assert np.log2(slope) == int(np.log2(slope))
    error = np.abs(values.astype(np.float64) * slope + intercept - voxels)
    assert np.all(error <= np.maximum(np.abs(voxels - intercept) * 2**-11, slope * 2**-24))
    assert error[1:].max() < 1.1 * 2**-11


def test_float16_keeps_a_background_of_zero():
    voxels = np.random.default_rng(0).uniform(0, 5, (20, 20, 20)) * (np.arange(20) > 9)
    voxels[0, 0, 19] = 300
    values, _, intercept = quantise(voxels, intensity_stats(voxels))
    assert (values.dtype, intercept) == (np.float16, 0)
    assert not values[..., :10].any()


def test_what_is_a_million_times_as_bright_does_not_eat_the_range():
    voxels = np.random.default_rng(0).uniform(0.5, 1, (20, 20, 20))
    voxels[0, 0, 0] = 1e30
    values, slope, intercept = quantise(voxels, intensity_stats(voxels))
    restored = values.astype(np.float64) * slope + intercept
    np.testing.assert_allclose(restored[1:], voxels[1:], atol=2**-11)
    assert 1e5 < restored[0, 0, 0] < np.inf


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


@pytest.mark.parametrize(("highest", "dtype"), [(255, np.uint8), (256, np.int16), (14175, np.int16)])
def test_labels_take_the_narrowest_type(highest, dtype):
    labels = as_labels(np.array([[0.0, 3.0], [0.0, highest]]))
    assert labels.dtype == dtype
    assert labels.tolist() == [[0, 3], [0, highest]]
