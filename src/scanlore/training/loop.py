"""The training loop: the same for every method, exactly resumable, on any number of devices."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from scanlore.errors import ScanloreError
from scanlore.memory import keep_freed_memory
from scanlore.methods.contract import Method
from scanlore.training.checkpoint import Saver, newest_checkpoint
from scanlore.training.compiling import is_compiled, uncompiled
from scanlore.training.metrics import MetricsWriter
from scanlore.training.parallel import World, gathered, telling_lost_processes
from scanlore.training.signals import GUARD, REASONS, StopRequests, stop_requests
from scanlore.training.step import Done, LoopPlan, Row, Trainer

__all__ = ["Callbacks", "Look", "LoopPlan", "Row", "TrainEnd", "train"]

logger = logging.getLogger("scanlore")
Look = Callable[[Method, nn.Module, Row], Row]
SAVE_FAILED = 1 + len(REASONS)
"""Stop code of a process whose last checkpoint could not be written."""


@dataclass
class Callbacks:
    """What a verb hangs into the loop.

    Attributes:
        batches: `(first, stop) -> batches`, the numbered batches of this rank.
        prepare: Moves a batch to the device and augments it there.
        look: `(method, exported network, values) -> values for the metrics`, called by the main process every
            `look_every` steps, where it is not `None`. The network is whole; a sharded method cannot be called. A true
            value `stop` ends the run behind the next step.
        progress: Called by the main process after every step with the rows of metrics and timings.
        export: `(step, exported network, its heads)`, called by the main process at each step of `export_at` and once
            behind the last step, also when a finished run is asked for again.
        blame: Says which scans of a batch, as `batches` gives it, hold voxels that are not finite; called when a step
            was skipped.
    """

    batches: Callable[[int, int], Iterator[Any]]
    prepare: Callable[[Any], Any]
    look: Look | None
    progress: Callable[[Row, Row], None]
    export: Callable[[int, nn.Module, dict[str, Tensor]], None] | None = None
    blame: Callable[[Any], str] | None = None


@dataclass(frozen=True)
class TrainEnd:
    """How training ended.

    Attributes:
        start: Step it started from; 0 for a new run.
        step: Steps done.
        stopped_by: What stopped it behind a whole checkpoint; `None` behind the last step.
    """

    start: int
    step: int
    stopped_by: str | None = None


def train(method: Method, plan: LoopPlan, out: Path, world: World, callbacks: Callbacks) -> TrainEnd:
    """Train until the last step or a request to stop, from the newest checkpoint where there is one.

    Args:
        method: On `world.device`, equal on every process.
        plan: Of the run.
        out: The run folder.
        world: Where this process stands.
        callbacks: Data, health and progress.

    Raises:
        ScanloreError: The gradients were not finite for too many steps in a row, a scan cannot be read, or another
            process has ended.
        OSError: A checkpoint could not be written.
    """
    keep_freed_memory()
    with telling_lost_processes(world), stop_requests(plan.stop_margin) as requests:
        trainer = Trainer(method, plan, world, callbacks.prepare)
        saver = Saver(out, plan.training.keep_checkpoints, world)
        newest = newest_checkpoint(out, world)
        if newest is not None:
            trainer.restore(newest, saver.group)
            saver.last_step = trainer.step
        run = _Run(trainer, saver, out, callbacks, requests)
        try:
            return run()
        finally:
            run.close()


class _Run:
    """A trainer with what surrounds it: data, looks, exports, metrics and checkpoints."""

    def __init__(self, trainer: Trainer, saver: Saver, out: Path, callbacks: Callbacks, requests: StopRequests) -> None:
        self.trainer, self.saver, self.callbacks, self.requests = trainer, saver, callbacks, requests
        self.out = out
        self.plan, self.world, self.start = trainer.plan, trainer.world, trainer.step
        # A look before the first step leaves a row of step 0, which is written anew with all others
        self.writer = MetricsWriter(out, self.start or -1) if self.world.is_main else None

    def __call__(self) -> TrainEnd:
        """Train."""
        training, passes = self.plan.training, self.plan.training.passes
        if self.plan.look_first and self.start == 0:
            self._write(self._look({"step": 0}), None)
        batches = _timed(self.callbacks.batches(self.start * passes, training.steps * passes))
        stop_code = 0
        try:
            while self.trainer.step < training.steps and not stop_code:
                stop_code = self._do_step(batches)
        finally:
            batches.close()
        self.saver.wait()
        step = self.trainer.step
        if step < training.steps:
            logger.info("stopped by %s at step %d; the same command goes on", REASONS[stop_code - 1], step)
            return TrainEnd(self.start, step, REASONS[stop_code - 1])
        self.trainer.end()
        self._export()
        return TrainEnd(self.start, step)

    def _do_step(self, batches: Iterator[tuple[Any, float]]) -> int:
        """Do a step and what is due behind it; returns the agreed stop code."""
        training, began = self.plan.training, time.perf_counter()
        done = self.trainer.do_step(batches, self._stop_code)
        if not done.is_finite:
            self._tell_skipped()
        self.trainer.check()
        if done.stop_code == SAVE_FAILED:
            self.saver.wait()
            raise ScanloreError("another process could not write its part of the last checkpoint")
        step = self.trainer.step
        is_last = step == training.steps
        every = self.plan.look_every
        values = done.values
        if every and (step % every == 0 or is_last):
            values = self._look(values)
        self._write(values, self._timings(done, time.perf_counter() - began))
        if step in self.plan.export_at and not is_last:
            self._export()
        if step % training.checkpoint_every == 0 or is_last or done.stop_code:
            self.saver.save(step, self.trainer.tensors(), self.trainer.numbers())
        return done.stop_code

    def _stop_code(self) -> int:
        return SAVE_FAILED if self.saver.has_failed else self.requests.code

    def _timings(self, done: Done, seconds: float) -> Row:
        scans = self.plan.training.batch_size / seconds
        row = {
            "step": self.trainer.step,
            "seconds": seconds,
            "data_wait": done.data_wait / seconds,
            "scans_per_second": scans,
        }
        if self.world.device.type == "cuda":
            row["peak_memory_gb"] = torch.cuda.max_memory_allocated(self.world.device) / 1e9
        return row

    def _write(self, values: Row, timings: Row | None) -> None:
        if self.writer is None:
            return
        self.writer.write(values, timings)
        if values["step"] == self.start + 1:
            self.writer.add_picture("first batch", self.out / "previews" / "first_batch.png", values["step"])
        if timings is not None:
            self.callbacks.progress(values, timings)

    def _look(self, values: Row) -> Row:
        exported, look = self.trainer.exported, self.callbacks.look if self.world.is_main else None
        if look is None and not exported.is_sharded:
            return values
        with self._aside(), exported.open() as network:
            found = look(self.trainer.method, network, values) if look else {}
        if found.pop("stop", False):
            self.requests.ask(GUARD)
        return values | found

    def _export(self) -> None:
        exported, export = self.trainer.exported, self.callbacks.export
        if export is None and not exported.is_sharded:
            return
        heads = exported.heads()
        with self._aside(), exported.open() as network:
            if export is not None and self.world.is_main:
                export(self.trainer.step, network, heads)

    def _aside(self) -> contextlib.AbstractContextManager[object]:
        is_used = is_compiled(self.plan.parallel, self.world.device)
        return uncompiled() if is_used else contextlib.nullcontext()

    def _tell_skipped(self) -> None:
        """Log that a step was skipped, and which scans of which process are to blame."""
        step, blame = self.trainer.step, self.callbacks.blame
        logger.warning("step %d was skipped: its gradients are not finite", step)
        if blame is None:
            return
        # The batches are made once more: keeping those of every step would cost memory in all of them
        passes = self.plan.training.passes
        first = (step - 1) * passes
        texts = [text for batch in self.callbacks.batches(first, first + passes) if (text := blame(batch))]
        for found in gathered(self.world, texts):
            for text in found:
                logger.warning("step %d: %s", step, text)

    def close(self) -> None:
        """Close the files and wait for what is being written, whatever happened."""
        if self.writer is not None:
            self.writer.close()
        self.saver.close()


def _timed(batches: Iterator[Any]) -> Any:
    """Yield batches with the seconds they were waited for."""
    try:
        while True:
            began = time.perf_counter()
            try:
                batch = next(batches)
            except StopIteration:
                return
            yield batch, time.perf_counter() - began
    finally:
        if hasattr(batches, "close"):
            batches.close()
