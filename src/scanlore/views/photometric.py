"""Photometric transforms, batched on the model's device and applied only to the rows that drew them."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from scanlore.views.photometric_draws import CONTROL_POINTS, GAMMA, GIBBS, NOISE, SEED, SHARPEN, SHIFT, SIGMA1, SIGMA2

Transform = Callable[[Tensor, Tensor], Tensor]
# Rows of a smoothing matrix that are multiplied together, over no more columns than they reach: behind TAIL sigmas a
# Gaussian has fallen below the rounding of float32.
BAND, TAIL = 16, 6.0


def apply_photometric(pixels: Tensor, draws: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    """Apply every view's own transforms.

    Args:
        pixels: `(N, C, *spatial)` float32, changed in place.
        draws: `(N, WIDTH)` on the CPU, from `draw_photometric`; NaN where a transform is not applied.
        low: `(N,)` lower bounds for the result; `None` does not clip.
        high: `(N,)` upper bounds.

    Returns:
        `pixels`.
    """
    steps: tuple[tuple[int, Transform], ...] = (
        (GAMMA, gamma),
        (NOISE, noise),
        (SHIFT.start, histogram_shift),
        (SIGMA1.start, smooth_or_sharpen),
        (GIBBS, gibbs),
    )
    changed = torch.zeros(len(pixels), dtype=torch.bool)
    for column, transform in steps:
        drawn = ~draws[:, column].isnan()
        changed |= drawn
        apply_to_rows(transform, pixels, draws, drawn.nonzero().flatten())
    if low is not None and high is not None and changed.any():
        _clip(pixels, low, high)
    return pixels


def apply_to_rows(transform: Transform, pixels: Tensor, draws: Tensor, rows: Tensor) -> None:
    """Change some rows in place.

    Args:
        transform: Of `(pixels, draws)` of the same rows.
        pixels: `(N, C, *spatial)`.
        draws: `(N, columns)` on the CPU.
        rows: Indices, on the CPU.
    """
    if pixels.device.type != "cpu":
        if len(rows):
            places = rows.to(pixels.device)
            pixels[places] = transform(pixels[places], draws[rows])
        return
    for row in rows.tolist():  # a CPU gains nothing from batches, and a single view stays in its cache
        pixels[row : row + 1] = transform(pixels[row : row + 1], draws[row : row + 1])


def _clip(pixels: Tensor, low: Tensor, high: Tensor) -> None:
    if low.device.type == high.device.type == "cpu" and (low == low[0]).all() and (high == high[0]).all():
        pixels.clamp_(float(low[0]), float(high[0]))  # several times faster than bounds of each view's own
        return
    shape = (-1,) + (1,) * (pixels.ndim - 1)
    bounds = (bound.to(pixels).reshape(shape) for bound in (low, high))
    torch.clamp(pixels, *bounds, out=pixels)


def value_range(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the minimum and the width of the range of each row; the width is never 0."""
    axes = tuple(range(1, pixels.ndim))
    low, high = pixels.amin(axes, keepdim=True), pixels.amax(axes, keepdim=True)
    return low, (high - low).clamp_min(1e-7)


def column(draws: Tensor, index: int, like: Tensor) -> Tensor:
    """Return a column of draws, one number per row, in a shape that broadcasts over `like`."""
    return draws[:, index].to(like).reshape((-1,) + (1,) * (like.ndim - 1))


def gamma(pixels: Tensor, draws: Tensor) -> Tensor:
    """Raise each view, mapped to [0, 1] by its own range, to a power."""
    low, width = value_range(pixels)
    power = ((pixels - low) / width).pow_(column(draws, GAMMA, pixels))
    return torch.addcmul(low, power, width, out=power)


def noise(pixels: Tensor, draws: Tensor) -> Tensor:
    """Add Gaussian noise."""
    return add_noise(pixels, draws[:, NOISE], draws[:, SEED])


def add_noise(pixels: Tensor, std: Tensor, seeds: Tensor) -> Tensor:
    """Add Gaussian noise; each view's comes from a seed of its own, so it does not depend on the batch.

    Args:
        pixels: `(N, C, *spatial)`.
        std: `(N,)` standard deviations.
        seeds: `(N,)`.
    """
    added = torch.empty_like(pixels)
    generator = torch.Generator(device=pixels.device)
    for row, seed in zip(added, seeds.tolist(), strict=True):
        torch.randn(row.shape, out=row, generator=generator.manual_seed(int(seed)))
    return torch.addcmul(pixels, added, column(std[:, None], 0, pixels), out=added)


def histogram_shift(pixels: Tensor, draws: Tensor) -> Tensor:
    """Map intensities through a monotone piecewise-linear curve over the view's own range.

    The curve is written as a sum of hinges `max(position, knot)`, which costs a few passes and no gather.
    """
    low, width = value_range(pixels)
    position = (pixels - low) * ((CONTROL_POINTS - 1) / width)
    points = draws[:, SHIFT].to(pixels)
    slopes = points.diff(dim=1)
    bends = torch.cat([slopes[:, :1], slopes.diff(dim=1)], dim=1)
    shape = (-1,) + (1,) * (pixels.ndim - 1)
    result = position * bends[:, 0].reshape(shape)
    hinge = torch.empty_like(position)
    for knot in range(1, CONTROL_POINTS - 1):
        torch.clamp_min(position, knot, out=hinge)
        result.addcmul_(hinge, bends[:, knot].reshape(shape))
    knots = torch.arange(CONTROL_POINTS - 1, device=pixels.device, dtype=pixels.dtype)
    offset = (bends * knots).sum(1).reshape(shape)
    return torch.addcmul(low - offset * width, result, width, out=result)


def smooth_or_sharpen(pixels: Tensor, draws: Tensor) -> Tensor:
    """Smooth; views that drew a second sigma are sharpened: `b1 + alpha * (b1 - b2)` with b2 = b1 smoothed again."""
    blurred = gaussian(pixels, draws[:, SIGMA1])
    rows = (~draws[:, SHARPEN].isnan()).nonzero().flatten()
    if len(rows):
        places = slice(None) if len(rows) == len(draws) else rows.to(pixels.device)
        first = blurred[places]
        second = gaussian(first, draws[rows][:, SIGMA2])
        blurred[places] = torch.lerp(first, second, -column(draws[rows], SHARPEN, first))
    return blurred


def gaussian(pixels: Tensor, sigma: Tensor) -> Tensor:
    """Smooth each view with its own Gaussian: one banded matrix product per axis.

    Args:
        pixels: `(N, C, *spatial)`.
        sigma: `(N, 3)` in voxels; surplus columns of 2D views are not read.
    """
    num, channels, *edges = pixels.shape
    reach = math.ceil(TAIL * float(sigma[:, : len(edges)].max()))
    # Every product takes the last axis and gives it back as the first, so that after all of them the order is the same
    for axis in reversed(range(len(edges))):
        kernel = _gaussian_matrix(sigma[:, axis].to(pixels), edges[axis])
        across = pixels.reshape(num, -1, edges[axis]).mT
        pixels = pixels.new_empty(num, edges[axis], across.shape[-1])
        for first in range(0, edges[axis], BAND):
            written = slice(first, first + BAND)
            read = slice(max(0, first - reach), first + BAND + reach)
            torch.bmm(kernel[:, written, read], across[:, read], out=pixels[:, written])
    return pixels.reshape(num, *edges, channels).movedim(-1, 1)


def _gaussian_matrix(sigma: Tensor, length: int) -> Tensor:
    """Return `(N, length, length)` smoothing matrices whose rows sum to one, also at the edges."""
    place = torch.arange(length, device=sigma.device, dtype=sigma.dtype)
    distance = (place[:, None] - place).square()
    kernel = torch.exp(-distance / (2 * sigma.square()[:, None, None]))
    return kernel / kernel.sum(-1, keepdim=True)


def gibbs(pixels: Tensor, draws: Tensor) -> Tensor:
    """Cut k-space off beyond the radius `(1 - alpha) * longest edge / sqrt(2)`, as truncated sampling does."""
    axes = tuple(range(2, pixels.ndim))
    edges = [pixels.shape[axis] for axis in axes]
    spectrum = torch.fft.rfftn(pixels, dim=axes)
    squared = torch.zeros(spectrum.shape[2:], device=pixels.device)
    for place, edge in enumerate(edges):
        last = place == len(edges) - 1
        frequency = (torch.fft.rfftfreq if last else torch.fft.fftfreq)(edge, 1 / edge, device=pixels.device)
        shape = [1] * len(edges)
        shape[place] = -1
        squared = squared + frequency.square().reshape(shape)
    radius = (1 - column(draws, GIBBS, pixels)) * max(edges) / 2**0.5
    spectrum *= squared <= radius.square()
    truncated: Tensor = torch.fft.irfftn(spectrum, s=edges, dim=axes)
    return truncated
