"""Devices and processes: the method is written for one device, what makes it run on many is applied here."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule

from scanlore.backbones.device import pick_device
from scanlore.errors import ScanloreError
from scanlore.training.launch import Launch, read_launch

T = TypeVar("T")
PATIENCE = timedelta(minutes=30)
"""For which processes wait for one another: the main one looks at the network now and then."""
MOST_WORKERS = 16
BROKEN = ("gloo", "NCCL", "ProcessGroup", "Connection closed", "Connection reset", "Broken pipe", "Socket Timeout")


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
    """Join the processes started by `torchrun` or Slurm's `srun`, or stand alone.

    Args:
        device: `auto`, `cpu`, `cuda`, `cuda:1` ...

    Raises:
        ConfigError: The environment is half set, or there is no such device.
        ScanloreError: The processes do not find one another.
    """
    launch = read_launch(os.environ)
    num_gpus = torch.cuda.device_count()
    # A launcher may show every process its own GPU alone, which then is the first
    chosen = pick_device(device, launch.local_rank % max(1, num_gpus) if launch else 0)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
        torch.backends.cuda.matmul.allow_tf32 = True
    if launch is None or dist.is_initialized():
        alone = not dist.is_initialized()
        yield World(0, 1, chosen) if alone else World(dist.get_rank(), dist.get_world_size(), chosen)
        return
    _join(launch, chosen)
    try:
        yield World(launch.rank, launch.size, chosen)
    finally:
        dist.destroy_process_group()


def _join(launch: Launch, device: torch.device) -> None:
    is_cuda = device.type == "cuda"
    # Under torchrun the meeting point is held by its agent, which only the environment tells
    meeting = "env://" if "TORCHELASTIC_RUN_ID" in os.environ else f"tcp://{launch.address}:{launch.port}"
    try:
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if is_cuda else "gloo",
            init_method=meeting,
            rank=launch.rank,
            world_size=launch.size,
            timeout=PATIENCE,
            device_id=device if is_cuda else None,
        )
    except RuntimeError as error:
        reason = str(error).partition("\n")[0]
        where = f"{launch.address}:{launch.port}"
        raise ScanloreError(f"the {launch.size} processes do not find one another: {reason}", where=where) from None


@contextlib.contextmanager
def telling_lost_processes(world: World) -> Iterator[None]:
    """Say in one line that another process is gone.

    Raises:
        ScanloreError: It is.
    """
    try:
        yield
    except RuntimeError as error:
        if world.size == 1 or not is_lost(error):
            raise
        raise lost() from None


def is_lost(error: BaseException) -> bool:
    """Return whether an error comes from the connection to another process."""
    return isinstance(error, dist.DistError) or any(word in str(error) for word in BROKEN)


def lost() -> ScanloreError:
    """Return the error for another process that is gone."""
    fix = "its own log says why; the same command goes on from the last checkpoint, which is intact"
    return ScanloreError("another process of this run has ended", fix=fix)


def meet(world: World) -> None:
    """Wait until every process has come this far."""
    if world.size > 1:
        dist.barrier()


def from_main(world: World, value: T) -> T:
    """Return the value of the main process, on every process."""
    if world.size == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values, src=0, device=torch.device("cpu"))
    return values[0]


def gathered(world: World, value: T) -> list[T]:
    """Return the values of all processes, in their order."""
    if world.size == 1:
        return [value]
    values: list[T] = [value] * world.size
    dist.all_gather_object(values, value)
    return values


def all_rows(values_N: Tensor, world: World) -> Tensor:
    """Return the values of all processes as `(processes, N)`, by one exchange."""
    if world.size == 1:
        return values_N[None]
    rows = [torch.empty_like(values_N) for _ in range(world.size)]
    dist.all_gather(rows, values_N)
    return torch.stack(rows)


def replicate(module: nn.Module, world: World) -> nn.Module:
    """Return the module as every process calls it: itself, or wrapped in DistributedDataParallel."""
    if world.size == 1:
        return module
    devices = [world.device.index] if world.device.type == "cuda" else None
    return nn.parallel.DistributedDataParallel(module, device_ids=devices, gradient_as_bucket_view=True)


@contextlib.contextmanager
def accumulating(module: nn.Module, is_last: bool) -> Iterator[None]:
    """Exchange gradients between processes only on the last of several passes."""
    if isinstance(module, FSDPModule):
        module.set_requires_gradient_sync(is_last)
        yield
    elif isinstance(module, nn.parallel.DistributedDataParallel) and not is_last:
        with module.no_sync():
            yield
    else:
        yield


def default_workers(world: World) -> int:
    """Return how many loader processes a device gets: its share of the cores, less one for the training itself."""
    launch = read_launch(os.environ)
    cores = len(os.sched_getaffinity(0))
    if launch is not None and launch.cores is not None:
        share = min(cores, launch.cores)
    else:
        share = cores // (launch.local_size if launch else world.size)
    return max(1, min(MOST_WORKERS, share - 1))
