"""Instance normalisation over visible voxels alone: all that a sparse CNN needs.

With `m` the mask of a sample and `N` its number of visible voxels (SparK, Tian et al. 2023; S3D, Wald et al. 2024,
section 3): `mean = sum m x / N`, `var = sum m (x - mean)^2 / N`, `y = m (weight (x - mean) / sqrt(var + eps) + bias)`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.instancenorm import _InstanceNorm

CHUNK = 1 << 18
"""Voxels that pass all steps of the norm together on a CPU: what stays in its cache."""


class _Masked(_InstanceNorm):
    """Adds a mask to an instance norm.

    Attributes:
        visible: `(B, 1, *grid)` of the layer's own resolution, true or 1 where visible; `None` is exactly the parent.
            It stays until it is changed: activation checkpointing computes a layer again in the backward pass.
    """

    visible: Tensor | None = None

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  (the parent's name)
        """Return `(B, C, *grid)`, zero where hidden; all zero for a sample without a visible voxel."""
        if self.visible is None:
            # The parent gives a view; what changes it in place, as activations do, would cost its gradient two copies.
            # Nothing else sees the base of that view
            out: Tensor = torch.ops.aten._unsafe_view(super().forward(input), input.shape)
            return out
        return masked_instance_norm(input, self.visible, self.weight, self.bias, self.eps)


class MaskedInstanceNorm2d(_Masked, nn.InstanceNorm2d):
    """`torch.nn.InstanceNorm2d` over visible pixels."""


class MaskedInstanceNorm3d(_Masked, nn.InstanceNorm3d):
    """`torch.nn.InstanceNorm3d` over visible voxels."""


def masked_instance_norm(x: Tensor, visible: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """Normalise each channel of each sample over its visible voxels; statistics in float32.

    Args:
        x: `(B, C, *grid)`.
        visible: `(B, 1, *grid)`, true or 1 where visible.
        weight: `(C,)`, or `None` for 1.
        bias: `(C,)`, or `None` for 0.
        eps: Added to the variance.

    Returns:
        `(B, C, *grid)` in the dtype of `x`, zero where hidden.
    """
    if x.is_cpu and not torch.compiler.is_compiling():
        out: Tensor = _CachedNorm.apply(x.contiguous(), visible, weight, bias, eps)
        return out
    return _closed_form(x, visible, weight, bias, eps)


def _closed_form(x: Tensor, visible: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    axes, per_channel = tuple(range(2, x.ndim)), (-1, *(1,) * (x.ndim - 2))
    mask = visible.float()
    count = mask.sum(axes, keepdim=True).clamp_min(1)
    mean = (x.float() * mask).sum(axes, keepdim=True) / count
    centred = (x.float() - mean) * mask
    scale = (centred.square().sum(axes, keepdim=True) / count + eps).rsqrt()
    if weight is not None:
        scale = scale * weight.float().view(per_channel)
    out = centred * scale
    return (out if bias is None else out + bias.float().view(per_channel) * mask).to(x.dtype)


class _CachedNorm(torch.autograd.Function):
    """The same with a closed backward pass, some channels at a time: every step but the first reads the cache."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, visible: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
        mask = visible.float().flatten(1)
        out, mean, scale = torch.empty_like(x), *x.new_empty(2, *x.shape[:2], 1, dtype=torch.float32)
        with torch.autocast("cpu", enabled=False):
            for sample, rows in _chunks(x):
                m, count = mask[sample], mask[sample].sum().clamp_min(1)
                values = x[sample, rows].flatten(1).float()
                mean[sample, rows] = (values @ m / count)[:, None]
                centred = torch.sub(values, mean[sample, rows]).mul_(m)
                variance = torch.linalg.vector_norm(centred, dim=1, keepdim=True).square_().div_(count)
                scale[sample, rows] = variance.add_(eps).rsqrt_()
                centred.mul_(scale[sample, rows] if weight is None else scale[sample, rows] * weight[rows, None])
                if bias is not None:
                    centred.addcmul_(bias[rows, None], m)
                out[sample, rows] = centred.view(out[sample, rows].shape)
        ctx.save_for_backward(x, mask, weight, mean, scale)
        ctx.has_bias = bias is not None
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, mask, weight, mean, scale = ctx.saved_tensors
        to_x = torch.empty_like(x)
        # Per channel and sample: the sums of the gradient and of its product with the normed voxels
        sums, products = x.new_empty(2, *x.shape[:2], 1, dtype=torch.float32)
        with torch.autocast("cpu", enabled=False):
            for sample, rows in _chunks(x):
                m, count, r = mask[sample], mask[sample].sum().clamp_min(1), scale[sample, rows]
                centred = torch.sub(x[sample, rows].flatten(1).float(), mean[sample, rows]).mul_(m)
                g = gradient[sample, rows].flatten(1).float()
                sums[sample, rows] = (g @ m)[:, None]
                products[sample, rows] = torch.linalg.vecdot(g, centred)[:, None] * r
                inner = torch.sub(g, sums[sample, rows] / count).mul_(m)
                inner.addcmul_(centred, products[sample, rows] * r / -count)
                inner.mul_(r if weight is None else r * weight[rows, None])
                to_x[sample, rows] = inner.view(to_x[sample, rows].shape)
        to_weight = None if weight is None else products.sum((0, 2))
        return to_x, None, to_weight, sums.sum((0, 2)) if ctx.has_bias else None, None


def _chunks(x: Tensor) -> list[tuple[int, slice]]:
    """Return the samples of `(B, C, *grid)` with ranges of channels that fit the cache together."""
    size = max(1, CHUNK // x[0, 0].numel())
    return [(sample, slice(start, start + size)) for sample in range(len(x)) for start in range(0, x.shape[1], size)]
