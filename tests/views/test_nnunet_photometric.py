import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from scanlore.views.affine_settings import IntensitySettings
from scanlore.views.nnunet_draws import (
    BRIGHTNESS,
    CONTRAST,
    GAMMA,
    INVERTED_GAMMA,
    NOISE,
    SEED,
    SIGMA,
    WIDTH,
    ZOOM,
    draw_intensity,
)
from scanlore.views.nnunet_photometric import apply_intensity

GENERATOR = torch.Generator().manual_seed(0)
PATCHES = torch.randn((2, 2, 9, 10, 11), generator=GENERATOR) + 0.5


def changed(*values, place=(1, 0), pixels=PATCHES):
    """One channel of one patch after changes, `(column, value)` each; all else must stay."""
    draws = torch.full((*pixels.shape[:2], WIDTH), torch.nan, dtype=torch.float64)
    for column, value in values:
        draws[place][column] = torch.as_tensor(value, dtype=torch.float64)
    result = apply_intensity(pixels.clone(), draws)
    untouched = torch.ones(pixels.shape[:2], dtype=torch.bool)
    untouched[place] = False
    assert torch.equal(result[untouched], pixels[untouched])
    return result[place].numpy()


BEFORE = PATCHES[1, 0].numpy()


def test_nothing_drawn_changes_nothing():
    np.testing.assert_array_equal(changed(), BEFORE)


def test_noise_has_its_strength_and_its_seed():
    added = changed((NOISE, 0.1), (SEED, 3)) - BEFORE
    assert added.std() == pytest.approx(0.1, rel=0.1)
    np.testing.assert_array_equal(
        added, changed((NOISE, 0.1), (SEED, 3), place=(0, 1), pixels=PATCHES.flip(0, 1)) - BEFORE
    )
    assert not np.allclose(added, changed((NOISE, 0.1), (SEED, 4)) - BEFORE)


def test_blur_is_gaussian_per_axis():
    inner = (slice(3, -3),) * 3
    expected = gaussian_filter(BEFORE, (0.5, 0.7, 0.9), truncate=6)
    np.testing.assert_allclose(changed((SIGMA, (0.5, 0.7, 0.9)))[inner], expected[inner], atol=1e-3)


def test_brightness_multiplies():
    np.testing.assert_allclose(changed((BRIGHTNESS, 1.2)), 1.2 * BEFORE, rtol=1e-6)


@pytest.mark.parametrize("factor", [0.8, 1.25])
def test_contrast_keeps_mean_and_range(factor):
    expected = np.clip(factor * (BEFORE - BEFORE.mean()) + BEFORE.mean(), BEFORE.min(), BEFORE.max())
    np.testing.assert_allclose(changed((CONTRAST, factor)), expected, atol=1e-5)


def test_low_resolution_keeps_a_constant_and_coarsens():
    assert changed((ZOOM, 0.5)).std() < BEFORE.std()
    np.testing.assert_allclose(changed((ZOOM, 1.0)), BEFORE, atol=1e-6)
    flat = torch.full((2, 2, 1, 7, 5), 3.0)
    np.testing.assert_allclose(changed((ZOOM, 0.5), pixels=flat), 3.0)


@pytest.mark.parametrize("sign", [1, -1])
def test_gamma_keeps_mean_and_spread(sign):
    column = GAMMA if sign == 1 else INVERTED_GAMMA
    found, before = sign * changed((column, 1.4)), sign * BEFORE
    unit = (before - before.min()) / np.ptp(before)
    power = unit**1.4
    expected = (power - power.mean()) / power.std() * before.std() + before.mean()
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_order_is_nnunets():
    both = changed((BRIGHTNESS, 1.2), (GAMMA, 0.8))
    after = changed((GAMMA, 0.8), pixels=torch.from_numpy(changed((BRIGHTNESS, 1.2))).expand(2, 2, -1, -1, -1))
    np.testing.assert_allclose(both, after, atol=1e-5)


@pytest.mark.parametrize("value", [0.0, -3.0, 1e4])
@pytest.mark.parametrize("ndim", [2, 3])
def test_constant_patches_are_never_nan(value, ndim):
    rng = np.random.default_rng(0)
    draws = np.array([draw_intensity(rng, 2, IntensitySettings()) for _ in range(200)])
    assert (~np.isnan(draws[:, 0])).any(0).all()
    pixels = torch.full((200, 2, *(6,) * ndim), value)
    assert apply_intensity(pixels, torch.from_numpy(draws)).isfinite().all()


def test_images():
    image = torch.randn((1, 1, 12, 13), generator=GENERATOR)
    values = [(SIGMA, (0.6, 0.9, 0.7)), (ZOOM, 0.6), (CONTRAST, 0.9)]
    found = changed(*values, place=(0, 0), pixels=image)
    assert found.shape == (12, 13)
    assert not np.allclose(found, image[0, 0])
