"""nnU-Net's changes of intensity as numbers, drawn apart from applying them; torch-free.

Kinds, probabilities and ranges are those of nnU-Net's default trainer. What it calls the variance of the noise is used
there as its standard deviation, and here too.
"""

from __future__ import annotations

import numpy as np

from scanlore.views.affine_settings import IntensitySettings
from scanlore.views.photometric_draws import Draw
from scanlore.views.randomness import factor_around_one

# Columns of the draw of a channel. NaN means that a change is not made.
NOISE, SEED, BRIGHTNESS, CONTRAST, ZOOM, INVERTED_GAMMA, GAMMA = range(7)
SIGMA = slice(7, 10)
WIDTH = SIGMA.stop

NOISE_STD, SIGMAS, FACTORS, ZOOMS, EXPONENTS = (0.0, 0.1), (0.5, 1.0), (0.75, 1.25), (0.5, 1.0), (0.7, 1.5)


def draw_intensity(rng: np.random.Generator, num_channels: int, settings: IntensitySettings) -> Draw:
    """Draw the changes of intensity of one patch.

    Args:
        rng: Of this patch.
        num_channels: Of the patch; most changes are drawn for each on its own.
        settings: Whether any are made.

    Returns:
        `(num_channels, WIDTH)`.
    """
    draw = np.full((num_channels, WIDTH), np.nan)
    if not settings.enabled:
        return draw
    if rng.random() < 0.1:
        draw[:, NOISE] = rng.uniform(*NOISE_STD)
        draw[:, SEED] = rng.integers(2**52, size=num_channels)  # exact in a float64
    if rng.random() < 0.2:
        for channel in np.flatnonzero(rng.random(num_channels) < 0.5):
            draw[channel, SIGMA] = rng.uniform(*SIGMAS, 3)
    for probability, column, bounds in ((0.15, BRIGHTNESS, FACTORS), (0.15, CONTRAST, FACTORS)):
        _draw_factors(rng, draw, probability, column, bounds)
    if rng.random() < 0.25:
        for channel in np.flatnonzero(rng.random(num_channels) < 0.5):
            draw[channel, ZOOM] = rng.uniform(*ZOOMS)
    for probability, column, bounds in ((0.1, INVERTED_GAMMA, EXPONENTS), (0.3, GAMMA, EXPONENTS)):
        _draw_factors(rng, draw, probability, column, bounds)
    return draw


def _draw_factors(
    rng: np.random.Generator, draw: Draw, probability: float, column: int, bounds: tuple[float, float]
) -> None:
    if rng.random() < probability:
        draw[:, column] = [factor_around_one(rng, bounds) for _ in draw]
