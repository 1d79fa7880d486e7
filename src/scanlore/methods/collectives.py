"""Sums over all processes, and themselves alone when there is one."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


def is_distributed() -> bool:
    """Return whether several processes train together."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def all_sum(values: Tensor) -> Tensor:
    """Return the sum over all processes."""
    if is_distributed():
        dist.all_reduce(values)
    return values


def all_max(values: Tensor) -> Tensor:
    """Return the maximum over all processes."""
    if is_distributed():
        dist.all_reduce(values, op=dist.ReduceOp.MAX)
    return values


def all_count(count: int, device: torch.device) -> Tensor:
    """Return a count summed over all processes, as a float on `device`."""
    return all_sum(torch.tensor(float(count), device=device))
