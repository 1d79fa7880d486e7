"""A 3D convolution that is right on every CPU."""

from __future__ import annotations

import torch
from torch import Tensor, nn

FAULTY_EDGE = 2


class Conv3d(nn.Conv3d):
    """`torch.nn.Conv3d` around a fault of its CPU kernels.

    In bfloat16 the gradient of a kernel of 3 with stride 1 is left uninitialised where the first spatial edge of the
    input is 2 (seen in torch 2.15 on a CPU that multiplies bfloat16 natively). Such inputs, the bottleneck of a small
    patch, are computed in float32.
    """

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:  # noqa: A002
        if input.is_cpu and input.shape[-3] == FAULTY_EDGE and torch.is_autocast_enabled("cpu"):
            with torch.autocast("cpu", enabled=False):
                return self._convolve(input.float(), weight, bias)
        return self._convolve(input, weight, bias)

    def _convolve(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:  # noqa: A002
        out: Tensor = super()._conv_forward(input, weight, bias)
        return out
