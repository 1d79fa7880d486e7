"""Devices and processes: the method is written for one device, what makes it run on many is applied here."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn

from scanlore.backbones.device import pick_device


@dataclass(frozen=True)
class World:
    """Where this process stands among those that train together.

    Attributes:
        rank: Of this process.
        size: Number of processes.
        device: Of this process.
    """

    rank: int
    size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this process writes the run folder."""
        return self.rank == 0


@contextlib.contextmanager
def open_world(device: str = "auto") -> Iterator[World]:
    """Join the processes started by `torchrun`, or stand alone.

    Args:
        device: `auto`, `cpu`, `cuda`, `cuda:1` ...
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    chosen = pick_device(device, int(os.environ.get("LOCAL_RANK", "0")))
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
        torch.backends.cuda.matmul.allow_tf32 = True
    if size == 1 or dist.is_initialized():
        alone = not dist.is_initialized()
        yield World(0, 1, chosen) if alone else World(dist.get_rank(), dist.get_world_size(), chosen)
        return
    dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    try:
        yield World(dist.get_rank(), dist.get_world_size(), chosen)
    finally:
        dist.destroy_process_group()


def meet(world: World) -> None:
    """Wait until every process has come this far."""
    if world.size > 1:
        dist.barrier()


def replicate(module: nn.Module, world: World) -> nn.Module:
    """Return the module as every process calls it: itself, or wrapped in DistributedDataParallel."""
    if world.size == 1:
        return module
    devices = [world.device.index] if world.device.type == "cuda" else None
    return nn.parallel.DistributedDataParallel(module, device_ids=devices)


def accumulating(module: nn.Module, is_last: bool) -> contextlib.AbstractContextManager[object]:
    """Return a context in which gradients are exchanged between processes only on the last of several passes."""
    if is_last or not isinstance(module, nn.parallel.DistributedDataParallel):
        return contextlib.nullcontext()
    return module.no_sync()


def default_workers(world: World) -> int:
    """Return how many loader processes a device gets: its share of the cores, less one for the training itself."""
    local = int(os.environ.get("LOCAL_WORLD_SIZE", world.size))
    return max(1, min(16, len(os.sched_getaffinity(0)) // local - 1))
