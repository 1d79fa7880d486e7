"""Which photometric transforms a view gets, drawn apart from applying them; torch-free.

Kinds and probabilities are 3DINO's: one of gamma, noise and histogram shift with probability 0.8 on every view;
smoothing or sharpening on every first global view and on a tenth of the second ones, which also get Gibbs noise with
probability 0.2; smoothing on half of the local views.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from scanlore.views.settings import PhotometricSettings

CONTROL_POINTS = 10
# Columns of a draw: a view's row in the tables that travel with the pixels. NaN means that a transform is not applied.
Draw = npt.NDArray[np.float64]
GAMMA, NOISE, SEED, GIBBS, SHARPEN = range(5)
SHIFT = slice(5, 5 + CONTROL_POINTS)
SIGMA1 = slice(SHIFT.stop, SHIFT.stop + 3)
SIGMA2 = slice(SIGMA1.stop, SIGMA1.stop + 3)
WIDTH = SIGMA2.stop


def draw_photometric(rng: np.random.Generator, settings: PhotometricSettings, name: str, ndim: int) -> Draw:
    """Draw the transforms of one view.

    Args:
        rng: Of this view.
        settings: Bounds.
        name: `global0`, `global1` or `local` and a number.
        ndim: Spatial axes of the view.
    """
    draw = np.full(WIDTH, np.nan)
    if not settings.enabled:
        return draw
    _draw_contrast(rng, settings, draw)
    if name == "global0" or (name == "global1" and rng.random() < 0.1):
        (_draw_smooth if rng.random() < 0.5 else _draw_sharpen)(rng, settings, draw, ndim)
    elif name.startswith("local") and rng.random() < 0.5:
        _draw_smooth(rng, settings, draw, ndim)
    if name == "global1" and rng.random() < 0.2:
        draw[GIBBS] = rng.uniform(*settings.gibbs_alpha)
    return draw


def _draw_contrast(rng: np.random.Generator, settings: PhotometricSettings, draw: Draw) -> None:
    kind = rng.integers(3)
    if rng.random() >= 0.8:
        return
    if kind == 0:
        draw[GAMMA] = rng.uniform(*settings.gamma)
    elif kind == 1:
        draw[NOISE] = rng.uniform(*settings.noise_std)
        draw[SEED] = rng.integers(2**52)  # exact in a float64
    else:
        draw[SHIFT] = _jittered_points(rng)


def _jittered_points(rng: np.random.Generator) -> npt.NDArray[np.float64]:
    points = np.linspace(0, 1, CONTROL_POINTS)
    for i in range(1, CONTROL_POINTS - 1):
        points[i] = rng.uniform(points[i - 1], points[i + 1])
    return points


def _draw_smooth(rng: np.random.Generator, settings: PhotometricSettings, draw: Draw, ndim: int) -> None:
    draw[SIGMA1][:ndim] = rng.uniform(*settings.smooth_sigma, ndim)


def _draw_sharpen(rng: np.random.Generator, settings: PhotometricSettings, draw: Draw, ndim: int) -> None:
    first = rng.uniform(0.5, 1.0, ndim)
    draw[SIGMA1][:ndim] = first
    draw[SIGMA2][:ndim] = rng.uniform(0.5, first)
    draw[SHARPEN] = rng.uniform(*settings.sharpen_alpha)
