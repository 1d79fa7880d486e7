import numpy as np
import pytest

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

COUNT, CHANNELS = 4000, 2


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    return np.array([draw_intensity(rng, CHANNELS, IntensitySettings()) for _ in range(COUNT)])


@pytest.mark.parametrize(
    ("column", "probability", "per_channel", "bounds"),
    [
        (NOISE, 0.1, 1, (0, 0.1)),
        (SIGMA.start, 0.2, 0.5, (0.5, 1)),
        (BRIGHTNESS, 0.15, 1, (0.75, 1.25)),
        (CONTRAST, 0.15, 1, (0.75, 1.25)),
        (ZOOM, 0.25, 0.5, (0.5, 1)),
        (INVERTED_GAMMA, 0.1, 1, (0.7, 1.5)),
        (GAMMA, 0.3, 1, (0.7, 1.5)),
    ],
)
def test_probabilities_and_ranges(table, column, probability, per_channel, bounds):
    drawn = ~np.isnan(table[:, :, column])
    np.testing.assert_allclose(drawn.mean(0), probability * per_channel, atol=0.02)
    assert drawn.any(1).mean() == pytest.approx(probability * (1 - (1 - per_channel) ** CHANNELS), abs=0.02)
    values, width = table[:, :, column][drawn], bounds[1] - bounds[0]
    assert bounds[0] <= values.min() < bounds[0] + 0.1 * width
    assert bounds[1] - 0.1 * width < values.max() <= bounds[1]


def test_channels_have_noise_of_one_strength_from_seeds_of_their_own(table):
    noisy = table[~np.isnan(table[:, 0, NOISE])]
    np.testing.assert_array_equal(noisy[:, 0, NOISE], noisy[:, 1, NOISE])
    assert np.all(noisy[:, 0, SEED] != noisy[:, 1, SEED])


def test_factors_are_drawn_per_channel(table):
    both = table[~np.isnan(table[:, 0, GAMMA])]
    assert np.all(both[:, 0, GAMMA] != both[:, 1, GAMMA])
    assert np.mean(both[:, :, GAMMA] < 1) == pytest.approx(0.5, abs=0.04)


def test_blur_draws_all_axes(table):
    drawn = ~np.isnan(table[:, :, SIGMA])
    assert np.array_equal(drawn.any(-1), drawn.all(-1))


def test_nothing_when_not_enabled():
    draw = draw_intensity(np.random.default_rng(0), 3, IntensitySettings(enabled=False))
    assert draw.shape == (3, WIDTH)
    assert np.isnan(draw).all()
