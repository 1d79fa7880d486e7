"""The training loop: the same for every method, exactly resumable."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from scanlore.backbones.device import autocast
from scanlore.errors import ScanloreError
from scanlore.memory import keep_freed_memory
from scanlore.methods.contract import Method, Progress
from scanlore.training.checkpoint import checkpoint_steps, load_checkpoint, save_checkpoint
from scanlore.training.metrics import MetricsWriter
from scanlore.training.optim_settings import OptimSettings
from scanlore.training.optimizer import build_optimizer, clip_parts, set_schedules
from scanlore.training.parallel import World, accumulating, replicate
from scanlore.training.settings import TrainingSettings
from scanlore.views.randomness import keyed_seed

logger = logging.getLogger("scanlore")
REMEDY = "lower the learning rate or use training.precision=fp32"
Row = dict[str, Any]
Look = Callable[[Method, Row], Row]


@dataclass(frozen=True)
class LoopPlan:
    """What the loop needs of the settings of a run, with every `auto` resolved.

    Attributes:
        training: Steps, batch size and checkpoints.
        optim: The optimiser.
        seed: Of the run.
        look_every: Steps between looks.
    """

    training: TrainingSettings
    optim: OptimSettings
    seed: int
    look_every: int


@dataclass
class Callbacks:
    """What a verb hangs into the loop.

    Attributes:
        batches: `(first, stop) -> batches`, the numbered batches of this rank.
        prepare: Moves a batch to the device and augments it there.
        look: Called by the main process every `look_every` steps; returns values for the metrics; `None` never looks.
        progress: Called by the main process after every step with the rows of metrics and timings.
    """

    batches: Callable[[int, int], Iterator[Any]]
    prepare: Callable[[Any], Any]
    look: Look | None
    progress: Callable[[Row, Row], None]


def train(method: Method, plan: LoopPlan, out: Path, world: World, callbacks: Callbacks) -> int:
    """Train until the last step, from the newest checkpoint where there is one.

    Args:
        method: On `world.device`.
        plan: Of the run.
        out: The run folder.
        world: Where this process stands.
        callbacks: Data, health and progress.

    Returns:
        The step that training started from; 0 for a new run.

    Raises:
        ScanloreError: The gradients were not finite for too many steps in a row, or a scan cannot be read.
    """
    keep_freed_memory()
    loop = _Loop(method, plan, world, callbacks.prepare)
    steps = checkpoint_steps(out)
    if steps:
        loop.restore(load_checkpoint(out, steps[-1]))
    start = loop.step
    writer = MetricsWriter(out, start) if world.is_main else None
    try:
        _run(loop, out, callbacks, writer)
    finally:
        if writer:
            writer.close()
    return start


def _run(loop: _Loop, out: Path, callbacks: Callbacks, writer: MetricsWriter | None) -> None:
    training = loop.plan.training
    first, stop = (step * training.accumulate for step in (loop.step, training.steps))
    batches = _timed(callbacks.batches(first, stop))
    while loop.step < training.steps:
        began = time.perf_counter()
        values, waited = loop.do_step(batches)
        every = loop.plan.look_every
        is_last = loop.step == training.steps
        if writer is not None:
            if callbacks.look and (loop.step % every == 0 or is_last):
                values |= callbacks.look(loop.method, values)
            seconds = time.perf_counter() - began
            scans = training.batch_size / seconds
            timings = {"step": loop.step, "seconds": seconds, "data_wait": waited / seconds, "scans_per_second": scans}
            writer.write(values, timings)
            callbacks.progress(values, timings)
            if loop.step % training.checkpoint_every == 0 or is_last:
                save_checkpoint(out, loop.step, loop.state(), training.keep_checkpoints)
    loop.end()


def _timed(batches: Iterator[Any]) -> Iterator[tuple[Any, float]]:
    while True:
        began = time.perf_counter()
        try:
            batch = next(batches)
        except StopIteration:
            return
        yield batch, time.perf_counter() - began


class _Loop:
    """State that changes from step to step."""

    def __init__(self, method: Method, plan: LoopPlan, world: World, prepare: Callable[[Any], Any]) -> None:
        self.method, self.plan, self.world, self.prepare = method, plan, world, prepare
        self.module = method.as_module().train()
        self.call: nn.Module = replicate(self.module, world)
        self.rules = method.param_rules()
        self.optimizer = build_optimizer(self.module, self.rules, plan.optim)
        self.step, self.num_bad, self.num_skipped = 0, 0, 0

    def state(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "num_bad": self.num_bad,
            "num_skipped": self.num_skipped,
            "method": self.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.module.load_state_dict(state["method"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.num_bad, self.num_skipped = state["step"], state["num_bad"], state["num_skipped"]

    def do_step(self, batches: Iterator[tuple[Any, float]]) -> tuple[Row, float]:
        """Do one optimiser step; returns its metrics and the seconds spent waiting for data."""
        progress = Progress(self.step, self.plan.training.steps)
        scheduled = set_schedules(self.optimizer, self.plan.optim, self.plan.training.batch_size, progress)
        terms, waited = self._accumulate(batches, progress)
        norms = clip_parts(self.module, self.rules, self.plan.optim.clip)
        is_finite = bool(torch.stack([norm.detach() for norm in norms.values()]).isfinite().all())
        if is_finite:
            self.optimizer.step()
            self.method.after_step(progress)
        self._count_bad(is_finite)
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        values: Row = {"step": self.step, "loss": sum(terms.values()), **terms, **scheduled}
        values |= {f"grad_norm_{part}": float(norm) for part, norm in norms.items()}
        values |= {name: float(value) for name, value in self.method.observed.values.items()}
        return values | ({} if is_finite else {"skipped": True}), waited

    def _accumulate(self, batches: Iterator[tuple[Any, float]], progress: Progress) -> tuple[Row, float]:
        passes, waited = self.plan.training.accumulate, 0.0
        sums: dict[str, Tensor] = {}
        for number in range(passes):
            batch, seconds = next(batches)
            waited += seconds
            batch = self.prepare(batch)
            # The only source of randomness in the network is reset at every pass, so no state needs saving; only now,
            # as a loader draws from it when it starts
            torch.manual_seed(keyed_seed(self.plan.seed, progress.step, self.world.rank, number))
            with accumulating(self.call, is_last=number == passes - 1):
                with autocast(self.plan.training.precision, self.world.device):
                    terms: dict[str, Tensor] = self.call(batch, progress)
                torch.stack(list(terms.values())).sum().div(passes).backward()
            for name, term in terms.items():
                sums[name] = sums.get(name, 0.0) + term.detach() / passes
        return {name: float(value) for name, value in sums.items()}, waited

    def _count_bad(self, is_finite: bool) -> None:
        self.num_bad = 0 if is_finite else self.num_bad + 1
        self.num_skipped += not is_finite
        if not is_finite:
            logger.warning("step %d was skipped: its gradients are not finite", self.step + 1)
        if self.num_bad >= self.plan.training.max_bad_steps:
            what = f"gradients were not finite for {self.num_bad} steps in a row"
            raise ScanloreError(what, where=f"step {self.step + 1}", fix=f"{REMEDY}; the last checkpoint is intact")

    def end(self) -> None:
        """Say how many steps were skipped; a run without a single update has trained nothing."""
        if self.num_skipped == self.step:
            raise ScanloreError("the gradients of no step were finite: nothing was trained", fix=REMEDY)
        if self.num_skipped:
            logger.warning("%d of %d steps were skipped: their gradients were not finite", self.num_skipped, self.step)
