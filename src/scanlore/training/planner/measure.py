"""What a step really takes, measured on the first batches of a run."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from scanlore.errors import DataError
from scanlore.memory import keep_freed_memory
from scanlore.training.planner.rates import wait
from scanlore.training.planner.step import build_trainer
from scanlore.training.settings import PretrainSettings
from scanlore.views.loader import Batch, LoaderPlan, make_batch, to_device

PROC = Path("/proc/self")
FIX = "lower training.batch_size or raise training.accumulate"
STEPS = 2
"""The second has the optimiser's state beside it from its start."""


@dataclass(frozen=True)
class Measured:
    """What a step took.

    Attributes:
        peak_bytes: Most memory in use at once: of a GPU as torch counts it, of a CPU what a process grew by.
        seconds: Of the second step, without reading its views.
        load_seconds: Reading and sampling its views in one process.
        loss: Of the second step.
    """

    peak_bytes: int
    seconds: float
    load_seconds: float
    loss: float


def measure(settings: PretrainSettings, plan: LoaderPlan, device: torch.device) -> Measured:
    """Do two optimiser steps on the first batches of a run, with fresh weights, and keep nothing of them.

    They are this process's share of a step, done alone. On a CPU they are done in a process of their own, whose memory
    is theirs alone.

    Args:
        settings: Of the run, with every `auto` resolved.
        plan: What the loader of this process gives.
        device: Where.

    Raises:
        DataError: A batch cannot be read, or memory ran out.
    """
    if device.type != "cpu":
        return _steps(settings, plan, device, 0)
    context = multiprocessing.get_context("forkserver")
    try:
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            return pool.submit(_steps, settings, plan, device, torch.get_num_threads()).result()
    except BrokenProcessPool:
        raise DataError("the process that tried one step ended: memory ran out", fix=FIX) from None


def _steps(settings: PretrainSettings, plan: LoaderPlan, device: torch.device, threads: int) -> Measured:
    if threads:
        torch.set_num_threads(threads)
    keep_freed_memory()
    batches = _batches(settings, plan, device)
    try:
        with _peak(device) as peak:
            trainer = build_trainer(settings, device)
            for _ in range(STEPS):
                began = time.perf_counter()
                done = trainer.do_step(batches)
                wait(device)
                seconds = time.perf_counter() - began
    except torch.OutOfMemoryError:
        raise DataError("one step does not fit the memory of the device", fix=FIX) from None
    return Measured(peak[0], seconds - done.data_wait, done.data_wait, float(done.values["loss"]))


def _batches(settings: PretrainSettings, plan: LoaderPlan, device: torch.device) -> Iterator[tuple[Batch, float]]:
    for number in range(STEPS * settings.training.passes):
        began = time.perf_counter()
        batch = make_batch(plan, number)
        seconds = time.perf_counter() - began
        yield to_device(batch, device, clip=settings.views.clips), seconds


@contextmanager
def _peak(device: torch.device) -> Iterator[list[int]]:
    """Give a list that holds, once left, the bytes that were in use at most beyond those before."""
    _warm_up(device)
    found: list[int] = []
    before = _reset_peak(device)
    yield found
    found.append(_read_peak(device) - before)


def _warm_up(device: torch.device) -> None:
    """Load the libraries that any step needs, which are none of its memory."""
    torch.nn.init.trunc_normal_(torch.empty(2, 2))  # imports torch's compiler
    layer = torch.nn.Conv3d(1, 1, 1, device=device)
    layer(torch.ones(1, 1, 8, 8, 8, device=device)).sum().backward()


def _reset_peak(device: torch.device) -> int:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)
    (PROC / "clear_refs").write_text("5", encoding="ascii")
    return _resident("VmRSS")


def _read_peak(device: torch.device) -> int:
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else _resident("VmHWM")


def _resident(field: str) -> int:
    lines = (PROC / "status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))
