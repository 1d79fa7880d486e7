import numpy as np
import pytest

from scanlore.views.photometric_draws import GAMMA, GIBBS, NOISE, SEED, SHARPEN, SHIFT, SIGMA1, SIGMA2, draw_photometric
from scanlore.views.settings import PhotometricSettings

COUNT = 3000


def draws(name, ndim=3, **settings):
    rng = np.random.default_rng(0)
    return np.array([draw_photometric(rng, PhotometricSettings(**settings), name, ndim) for _ in range(COUNT)])


def share(columns):
    return float(np.mean(~np.isnan(columns)))


@pytest.fixture(scope="module", params=["global0", "global1", "local3"])
def named(request):
    return request.param, draws(request.param)


def test_one_contrast_change_with_probability_four_fifths(named):
    _, table = named
    drawn = ~np.isnan(table[:, [GAMMA, NOISE, SHIFT.start]])
    assert drawn.sum(1).max() == 1
    np.testing.assert_allclose(drawn.mean(0), 0.8 / 3, atol=0.03)


def test_smoothing_sharpening_and_gibbs_by_kind_of_view(named):
    name, table = named
    smoothed, sharpened, gibbs = {
        "global0": (0.5, 0.5, 0.0),
        "global1": (0.05, 0.05, 0.2),
        "local3": (0.5, 0.0, 0.0),
    }[name]
    assert share(table[:, SIGMA1.start]) - share(table[:, SHARPEN]) == pytest.approx(smoothed, abs=0.03)
    assert share(table[:, SHARPEN]) == pytest.approx(sharpened, abs=0.03)
    assert share(table[:, GIBBS]) == pytest.approx(gibbs, abs=0.03)


@pytest.mark.parametrize("exact", [False, True])
def test_draws_stay_within_the_bounds(exact):
    settings, table = (
        PhotometricSettings(exact=exact),
        np.concatenate([draws("global0", exact=exact), draws("global1", exact=exact)]),
    )
    for column, (low, high) in (
        (GAMMA, settings.gamma),
        (NOISE, settings.noise_std),
        (GIBBS, settings.gibbs_alpha),
        (SHARPEN, settings.sharpen_alpha),
    ):
        values = table[~np.isnan(table[:, column]), column]
        assert low <= values.min() < low + 0.1 * (high - low)
        assert high >= values.max() > high - 0.1 * (high - low)
    smoothed = table[np.isnan(table[:, SHARPEN]) & ~np.isnan(table[:, SIGMA1.start]), SIGMA1]
    assert settings.smooth_sigma[0] <= smoothed.min()
    assert smoothed.max() <= settings.smooth_sigma[1]


def test_second_smoothing_of_sharpening_is_the_weaker():
    table = draws("global0")
    sharpened = table[~np.isnan(table[:, SHARPEN])]
    assert np.all(sharpened[:, SIGMA2] <= sharpened[:, SIGMA1])
    assert sharpened[:, SIGMA2].min() >= 0.5
    assert sharpened[:, SIGMA1].max() <= 1.0


def test_shift_is_monotone_from_0_to_1():
    points = draws("local0")[:, SHIFT]
    points = points[~np.isnan(points[:, 0])]
    assert np.all(np.diff(points, axis=1) >= 0)
    assert np.all(points[:, 0] == 0)
    assert np.all(points[:, -1] == 1)


def test_noise_has_a_seed_of_its_own():
    table = draws("local0")
    seeds = table[~np.isnan(table[:, NOISE]), SEED]
    assert len(np.unique(seeds)) == len(seeds)
    assert np.all(seeds == seeds.astype(np.int64))


def test_images_draw_two_sigmas():
    table = draws("global0", ndim=2)
    assert share(table[:, SIGMA1][:, :2]) > 0.9
    assert share(table[:, SIGMA1][:, 2]) == 0


def test_nothing_when_not_enabled():
    assert share(draws("global0", enabled=False)) == 0
