"""Sums over all processes, and themselves alone when there is one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

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


class _AllRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        gathered = rows.new_empty((dist.get_world_size() * len(rows), *rows.shape[1:]))
        dist.all_gather_into_tensor(gathered, rows.contiguous())
        return gathered

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        # Every process has a loss of its own on these rows; each row's gradient is the sum over all of them
        total = grads[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total.chunk(dist.get_world_size())[dist.get_rank()]


def all_rows(rows: Tensor) -> tuple[Tensor, int]:
    """Return the rows of all processes, in the order of their ranks, and where those of this one begin.

    The gradient flows back to every process. All have the same number of rows.
    """
    if not is_distributed():
        return rows, 0
    gathered: Tensor = _AllRows.apply(rows)
    return gathered, dist.get_rank() * len(rows)


def local_shards(tensors: Iterable[Tensor]) -> list[Tensor]:
    """Return of each tensor the part that this process holds: all of it, where it is not sharded."""
    # Asked by what it can do: the import of torch.distributed.tensor takes most of a second
    return [tensor.to_local() if hasattr(tensor, "to_local") else tensor for tensor in tensors]


def all_count(count: int, device: torch.device) -> Tensor:
    """Return a count summed over all processes, as a float on `device`."""
    return all_sum(torch.full((), float(count), device=device))
