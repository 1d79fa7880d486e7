import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from scanlore.views import photometric_draws
from scanlore.views.photometric import apply_photometric
from scanlore.views.photometric_draws import NOISE, SEED, WIDTH

SHAPES = [(12, 10, 9), (15, 12)]


def views(shape, count=3, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).uniform(-1, 1, (count, 1, *shape)).astype(np.float32))


def table(count, **columns):
    """Draws of nothing but `columns`, on the first view."""
    draws = torch.full((count, WIDTH), float("nan"), dtype=torch.float64)
    for name, value in columns.items():
        draws[0, getattr(photometric_draws, name)] = torch.as_tensor(value, dtype=torch.float64)
    return draws


def changed(shape, **columns):
    """The first view after the transform, as float64; the others must not change by a bit."""
    pixels = views(shape)
    before = pixels.clone()
    after = apply_photometric(pixels, table(3, **columns))
    assert torch.equal(after[1:], before[1:])
    assert not torch.equal(after[0], before[0])
    return before[0, 0].double().numpy(), after[0, 0].double().numpy()


@pytest.mark.parametrize("shape", SHAPES)
def test_nothing_drawn_changes_nothing(shape):
    pixels = views(shape)
    bounds = torch.zeros(3)
    assert torch.equal(apply_photometric(pixels.clone(), table(3)), pixels)
    assert torch.equal(apply_photometric(pixels.clone(), table(3), bounds - 2, bounds + 2), pixels)


@pytest.mark.parametrize("shape", SHAPES)
def test_gamma(shape):
    before, after = changed(shape, GAMMA=1.7)
    low, width = before.min(), np.ptp(before)
    np.testing.assert_allclose(after, ((before - low) / width) ** 1.7 * width + low, atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_histogram_shift(shape):
    points = np.sort(np.random.default_rng(1).uniform(0, 1, 10))
    points[[0, -1]] = 0, 1
    before, after = changed(shape, SHIFT=points)
    low, width = before.min(), np.ptp(before)
    expected = np.interp(before, low + width * np.linspace(0, 1, 10), low + width * points)
    np.testing.assert_allclose(after, expected, atol=3e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_noise_has_its_spread_and_comes_from_its_seed(shape):
    shape = tuple(edge * 3 for edge in shape)
    before, after = changed(shape, NOISE=0.1, SEED=5)
    added = (after - before) / 0.1
    assert abs(added.mean()) < 0.1
    assert abs(added.std() - 1) < 0.1
    np.testing.assert_array_equal(after, changed(shape, NOISE=0.1, SEED=5)[1])
    assert np.any(after != changed(shape, NOISE=0.1, SEED=6)[1])


def test_noise_does_not_depend_on_the_batch():
    pixels, draws = views((8, 8, 8), 4), table(4)
    draws[:, NOISE], draws[:, SEED] = 0.1, torch.arange(4)
    together = apply_photometric(pixels.clone(), draws)
    alone = torch.cat([apply_photometric(pixels[i : i + 1].clone(), draws[i : i + 1]) for i in (3, 0, 2, 1)])
    assert torch.equal(together[[3, 0, 2, 1]], alone)


def smoothed(view, sigma):
    """scipy's, with its weights at the edges made to sum to one again."""
    options = {"sigma": sigma, "mode": "constant", "truncate": 20}
    return gaussian_filter(view, **options) / gaussian_filter(np.ones_like(view), **options)


@pytest.mark.parametrize("shape", SHAPES)
def test_smoothing(shape):
    sigma = (0.9, 1.4, 0.6)[: len(shape)]
    before, after = changed(shape, SIGMA1=[*sigma, *[np.nan] * (3 - len(sigma))])
    np.testing.assert_allclose(after, smoothed(before, sigma), atol=2e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_sharpening(shape):
    first, second = (0.9, 0.8, 0.7)[: len(shape)], (0.5, 0.6, 0.65)[: len(shape)]
    rest = [np.nan] * (3 - len(shape))
    before, after = changed(shape, SIGMA1=[*first, *rest], SIGMA2=[*second, *rest], SHARPEN=2.5)
    once = smoothed(before, first)
    np.testing.assert_allclose(after, once + 2.5 * (once - smoothed(once, second)), atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("alpha", [0.3, 0.8])
def test_gibbs(shape, alpha):
    before, after = changed(shape, GIBBS=alpha)
    frequencies = np.meshgrid(*(np.fft.fftfreq(edge, 1 / edge) for edge in shape), indexing="ij")
    inside = sum(f**2 for f in frequencies) <= ((1 - alpha) * max(shape) / np.sqrt(2)) ** 2
    np.testing.assert_allclose(after, np.fft.ifftn(np.fft.fftn(before) * inside).real, atol=3e-6)


@pytest.mark.parametrize("shape", [(32, 32, 32), (32, 28)])
def test_strongest_gibbs_leaves_something_to_see(shape):
    _, after = changed(shape, GIBBS=0.95)
    assert after.std() > 0


def test_several_transforms_come_one_after_the_other():
    sigma = [1.0, 1.2, 0.8]
    before, after = changed((12, 10, 9), GAMMA=1.5, SIGMA1=sigma, GIBBS=0.4)
    stepwise = torch.from_numpy(before).float()[None, None]
    for columns in ({"GAMMA": 1.5}, {"SIGMA1": sigma}, {"GIBBS": 0.4}):
        stepwise = apply_photometric(stepwise, table(1, **columns))
    np.testing.assert_allclose(after, stepwise[0, 0], atol=1e-6)


def test_views_end_within_their_own_bounds():
    pixels, draws = views((8, 8, 8)), table(3)
    draws[:, NOISE], draws[:, SEED] = 5.0, torch.arange(3)
    low, high = torch.tensor([-1.0, -0.5, -2.0]), torch.tensor([1.0, 0.5, 3.0])
    after = apply_photometric(pixels, draws, low, high)
    assert torch.equal(after.flatten(1).amin(1), low)
    assert torch.equal(after.flatten(1).amax(1), high)


def test_without_bounds_nothing_is_clipped():
    pixels, draws = views((8, 8, 8)), table(3, NOISE=5.0, SEED=1)
    assert apply_photometric(pixels, draws).abs().max() > 5


def test_infinite_bounds_clip_nothing():
    pixels, draws = views((8, 8, 8)), table(3, NOISE=5.0, SEED=1)
    free = torch.full((3,), torch.inf)
    assert apply_photometric(pixels, draws, -free, free).abs().max() > 5


@pytest.mark.parametrize(
    "columns", [{"GAMMA": 0.5}, {"SHIFT": np.linspace(0, 1, 10)}, {"SIGMA1": [1.0, 1, 1]}, {"GIBBS": 0.9}]
)
def test_constant_view_stays_finite(columns):
    pixels = torch.full((1, 1, 8, 8, 8), -1.0)
    np.testing.assert_allclose(apply_photometric(pixels, table(1, **columns)), -1.0, atol=1e-5)
