"""nnU-Net's changes of intensity, batched on the model's device and made only to the channels that drew them."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from scanlore.views.nnunet_draws import BRIGHTNESS, CONTRAST, GAMMA, INVERTED_GAMMA, NOISE, SEED, SIGMA, WIDTH, ZOOM
from scanlore.views.photometric import Transform, add_noise, apply_to_rows, column, gaussian, value_range

SMALLEST_STD = 1e-7
UPSAMPLING = {2: "bilinear", 3: "trilinear"}


def apply_intensity(pixels: Tensor, draws: Tensor) -> Tensor:
    """Make the changes of every patch, in nnU-Net's order.

    Args:
        pixels: `(N, C, *spatial)` float32, changed in place.
        draws: `(N, C, WIDTH)` on the CPU, from `draw_intensity`.

    Returns:
        `pixels`.
    """
    channels, draws = pixels.flatten(0, 1)[:, None], draws.reshape(-1, WIDTH)
    steps: tuple[tuple[int, Transform], ...] = (
        (NOISE, lambda x, d: add_noise(x, d[:, NOISE], d[:, SEED])),
        (SIGMA.start, lambda x, d: gaussian(x, d[:, SIGMA])),
        (BRIGHTNESS, lambda x, d: x * column(d, BRIGHTNESS, x)),
        (CONTRAST, contrast),
        (ZOOM, low_resolution),
        (INVERTED_GAMMA, lambda x, d: -gamma(-x, column(d, INVERTED_GAMMA, x))),
        (GAMMA, lambda x, d: gamma(x, column(d, GAMMA, x))),
    )
    for place, transform in steps:
        apply_to_rows(transform, channels, draws, (~draws[:, place].isnan()).nonzero().flatten())
    return pixels


def contrast(pixels: Tensor, draws: Tensor) -> Tensor:
    """Stretch or squeeze each channel about its mean, within the range it had."""
    axes = tuple(range(1, pixels.ndim))
    mean = pixels.mean(axes, keepdim=True)
    low, high = pixels.amin(axes, keepdim=True), pixels.amax(axes, keepdim=True)
    return ((pixels - mean).mul_(column(draws, CONTRAST, pixels)).add_(mean)).clamp_(low, high)


def low_resolution(pixels: Tensor, draws: Tensor) -> Tensor:
    """Shrink each channel by nearest neighbours and enlarge it again linearly."""
    result = pixels.clone()
    edges = tuple(pixels.shape[2:])
    for row, zoom in enumerate(draws[:, ZOOM].tolist()):
        small = F.interpolate(
            pixels[row : row + 1], [max(1, round(edge * zoom)) for edge in edges], mode="nearest-exact"
        )
        result[row : row + 1] = F.interpolate(small, edges, mode=UPSAMPLING[len(edges)])
    return result


def gamma(pixels: Tensor, exponents: Tensor) -> Tensor:
    """Raise each channel, mapped to [0, 1] by its own range, to a power; its mean and spread stay.

    Args:
        pixels: `(N, 1, *spatial)`.
        exponents: One per channel, in a shape that broadcasts.
    """
    axes = tuple(range(1, pixels.ndim))
    low, width = value_range(pixels)
    result = ((pixels - low) / width).pow_(exponents).mul_(width).add_(low)
    gain = pixels.std(axes, keepdim=True) / result.std(axes, keepdim=True).clamp_min(SMALLEST_STD)
    mean = pixels.mean(axes, keepdim=True)
    return (result - result.mean(axes, keepdim=True)).mul_(gain).add_(mean)
