"""How fast a device is at what training does most: matrix products and moving memory."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch

EDGE = {"cuda": 8192, "cpu": 1024}
COPIED = {"cuda": 1 << 28, "cpu": 1 << 26}
TIMES = 5


@dataclass(frozen=True)
class Rates:
    """Of one device.

    Attributes:
        flops: Floating-point operations a second in a large matrix product.
        bandwidth: Bytes a second, read and written, in a large copy.
    """

    flops: float
    bandwidth: float


@lru_cache
def measure_rates(device: torch.device, dtype: torch.dtype) -> Rates | None:
    """Measure a device for a fraction of a second.

    Args:
        device: Where.
        dtype: Of the matrix product.

    Returns:
        `None` where the device is not in this machine.
    """
    if device.type == "cuda" and not torch.cuda.is_available():
        return None
    edge, size = EDGE.get(device.type, 1024), COPIED.get(device.type, 1 << 26)
    left, right = (torch.ones(edge, edge, dtype=dtype, device=device) for _ in range(2))
    source = torch.ones(size // 4, device=device)
    target = torch.empty_like(source)
    product = _fastest(lambda: left @ right, device)
    copy = _fastest(lambda: target.copy_(source), device)
    return Rates(2 * edge**3 / product, 2 * size / copy)


def _fastest(run: Callable[[], object], device: torch.device) -> float:
    times = []
    for _ in range(1 + TIMES):
        wait(device)
        began = time.perf_counter()
        run()
        wait(device)
        times.append(time.perf_counter() - began)
    return min(times[1:])


def wait(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
