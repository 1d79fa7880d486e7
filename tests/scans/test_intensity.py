import numpy as np
import pytest

from scanlore.errors import ConfigError, DataError
from scanlore.registry import SCALINGS
from scanlore.scans.intensity import intensity_stats, linear_map

RNG = np.random.default_rng(0)
SKEWED = (RNG.gamma(1.5, 300, (17, 23, 19)) - 1000).astype(np.float32)


def numpy_stats(voxels):
    values = voxels[np.isfinite(voxels)].astype(np.float64)
    return [values.min(), values.max(), values.mean(), values.std(), *np.percentile(values, [0.05, 5, 95, 99.95])]


@pytest.mark.parametrize(
    "voxels",
    [
        SKEWED,
        SKEWED.astype(np.int16),
        SKEWED.astype(np.int16).T[::-1, 1:],
        (SKEWED * 1e5).astype(np.int32),
        (SKEWED + 2000).astype(np.uint16),
        np.where(SKEWED > 500, np.nan, SKEWED),
        np.array([[3]], np.uint8),
        np.array([1.5, np.inf]),
    ],
    ids=["float", "int16", "view", "wide", "uint16", "nan", "one", "inf"],
)
def test_stats_equal_numpy(voxels):
    stats = intensity_stats(voxels)
    ours = [stats.minimum, stats.maximum, stats.mean, stats.std, stats.p0_05, stats.p5, stats.p95, stats.p99_95]
    assert all(type(value) is float for value in ours)
    np.testing.assert_allclose(ours, numpy_stats(voxels), rtol=1e-6)


def test_stats_leave_the_input_alone():
    before = SKEWED.copy()
    intensity_stats(SKEWED)
    np.testing.assert_array_equal(SKEWED, before)


def test_no_finite_voxel_is_refused():
    with pytest.raises(DataError, match="no voxel is a finite number"):
        intensity_stats(np.full((2, 2), np.nan))


@pytest.mark.parametrize(("policy", "ends"), [("percentile-0.05-99.95", (0.05, 99.95)), ("percentile-5-95", (5, 95))])
def test_percentile_policies(policy, ends):
    low, high = np.percentile(SKEWED, ends)
    expected = np.clip((SKEWED - low) / (high - low) * 2 - 1, -1, 1)
    mapped = linear_map(policy, intensity_stats(SKEWED))(SKEWED)
    assert mapped.dtype == np.float32
    np.testing.assert_allclose(mapped, expected, atol=1e-5)


def test_zscore_does_not_clip():
    mapped = linear_map("zscore", intensity_stats(SKEWED))(SKEWED)
    np.testing.assert_allclose(mapped, (SKEWED - SKEWED.mean()) / SKEWED.std(), atol=1e-4)


def test_window():
    mapped = linear_map("window", intensity_stats(SKEWED), (-160, 240))(np.array([-500.0, -160, 40, 240, 900]))
    np.testing.assert_allclose(mapped, [-1, -1, 0, 1, 1], atol=1e-12)


def test_8bit_ignores_the_scan():
    np.testing.assert_allclose(
        linear_map("8bit", intensity_stats(SKEWED))(np.array([0.0, 127.5, 255])), [-1, 0, 1], atol=1e-12
    )


@pytest.mark.parametrize("value", [0.0, -7.0, 0.1, 1e30])
@pytest.mark.parametrize("policy", [name for name in SCALINGS if name not in ("window", "8bit")])
def test_constant_scans_stay_finite(policy, value):
    constant = np.full((4, 4, 4), value, np.float32)
    mapped = linear_map(policy, intensity_stats(constant))(constant)
    assert np.unique(mapped).tolist() == [0.0 if policy == "zscore" else -1.0]


def test_small_object_in_an_empty_field_is_not_lost():
    voxels = np.zeros(10_000)
    voxels[:2] = 50
    mapped = linear_map("percentile-0.05-99.95", intensity_stats(voxels))(voxels)
    assert (mapped[0], mapped[-1]) == (1, -1)


def test_unknown_policy_names_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'zscore'"):
        linear_map("z-score", intensity_stats(SKEWED))


@pytest.mark.parametrize("window", [None, (5, 5), (6, 5)])
def test_window_needs_rising_bounds(window):
    with pytest.raises(ConfigError, match="two rising bounds"):
        linear_map("window", intensity_stats(SKEWED), window)
