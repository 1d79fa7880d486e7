"""One optimiser step, and the state that changes from step to step."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from scanlore.backbones.device import autocast
from scanlore.errors import ScanloreError
from scanlore.methods.contract import Method, Progress
from scanlore.training.anchor import Anchor
from scanlore.training.checkpoint import load_checkpoint
from scanlore.training.optim_settings import OptimSettings
from scanlore.training.optimizer import build_optimizer, clip_parts, set_schedules
from scanlore.training.parallel import World, accumulating, all_rows
from scanlore.training.parallel_settings import ParallelSettings
from scanlore.training.settings import TrainingSettings
from scanlore.training.sharding import Exported, parallelize, whole, without_missing_kernels
from scanlore.training.state import make_room, named_state
from scanlore.views.randomness import keyed_seed

logger = logging.getLogger("scanlore")
REMEDY = "lower the learning rate or use training.precision=fp32"
Row = dict[str, Any]


@dataclass(frozen=True)
class LoopPlan:
    """What the loop needs of the settings of a run, with every `auto` resolved.

    Attributes:
        training: Steps, batch size and checkpoints.
        optim: The optimiser.
        seed: Of the run.
        look_every: Steps between looks; 0 never looks.
        parallel: How the run is spread over devices.
        look_first: Whether a new run is looked at before its first step.
        export_at: Steps behind which the exported network is handed out, besides the last.
        anchor: Strength of the pull of the backbone towards its weights at the start.
        stop_margin: Seconds before the end of a Slurm job at which the run stops; `None` heeds no request to stop.
    """

    training: TrainingSettings
    optim: OptimSettings
    seed: int
    look_every: int
    parallel: ParallelSettings = field(default_factory=ParallelSettings)
    look_first: bool = False
    export_at: tuple[int, ...] = ()
    anchor: float = 0.0
    stop_margin: float | None = 120.0


@dataclass(frozen=True)
class Done:
    """What a step told.

    Attributes:
        values: Its metrics; the loss terms are means over all processes.
        data_wait: Seconds spent waiting for data, of the process that waited longest.
        stop_code: Largest stop code of all processes.
        is_finite: Whether the weights were changed.
    """

    values: Row
    data_wait: float
    stop_code: int
    is_finite: bool


class Trainer:
    """A method with its optimiser, on as many devices as there are.

    Args:
        method: On `world.device`; it is recomputed, compiled and sharded in place, as the plan says.
        plan: Of the run.
        world: Where this process stands.
        prepare: Moves a batch to the device and augments it there.
    """

    def __init__(self, method: Method, plan: LoopPlan, world: World, prepare: Callable[[Any], Any]) -> None:
        self.method, self.plan, self.world, self.prepare = method, plan, world, prepare
        self.module = method.as_module().train()
        self.exported = Exported(method, plan.parallel, world)
        self.call: nn.Module = parallelize(self.module, plan.parallel, world, plan.training.precision)
        self.rules = method.param_rules()
        self.optimizer = build_optimizer(self.module, self.rules, plan.optim)
        if self.exported.is_sharded:
            without_missing_kernels(self.optimizer)
        self.anchor = Anchor(self.module, self.rules, plan.anchor)
        self.step, self.num_bad, self.num_skipped = 0, 0, 0

    def tensors(self) -> dict[str, Tensor]:
        """Return all tensors of the state by name, sharing their memory."""
        return named_state(self.module, self.optimizer, self.anchor.start)

    def numbers(self) -> dict[str, int]:
        """Return the rest of the state."""
        return {"step": self.step, "num_bad": self.num_bad, "num_skipped": self.num_skipped}

    def restore(self, folder: Path, group: dist.ProcessGroup | None = None) -> None:
        """Go on from a checkpoint.

        Raises:
            ModelError: It cannot be read.
        """
        make_room(self.module, self.optimizer, folder)
        numbers = load_checkpoint(folder, self.tensors(), group)
        self.step, self.num_bad, self.num_skipped = (numbers[name] for name in self.numbers())

    def do_step(self, batches: Iterator[tuple[Any, float]], stop_code: Callable[[], int] = lambda: 0) -> Done:
        """Do one optimiser step.

        Args:
            batches: With the seconds they were waited for.
            stop_code: Says whether this process is to stop behind this step, asked late in it.
        """
        progress = Progress(self.step, self.plan.training.steps)
        scheduled = set_schedules(self.optimizer, self.plan.optim, self.plan.training.batch_size, progress)
        terms, waited = self._accumulate(batches, progress)
        norms = {part: whole(norm) for part, norm in clip_parts(self.module, self.rules, self.plan.optim.clip).items()}
        # The host waits for the device here and nowhere else in a step
        means, norm_values, waits, codes = self._told(terms | self.method.observed.values, norms, waited, stop_code())
        is_finite = all(map(_is_finite, norm_values))
        if is_finite:
            self.optimizer.step()
            self.anchor.pull(self.optimizer)
            self.method.after_step(progress)
        self._count_bad(is_finite)
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        values: Row = {"step": self.step, "loss": sum(means[name] for name in terms)}
        values |= {name: means[name] for name in terms} | scheduled
        values |= {f"grad_norm_{part}": norm for part, norm in zip(norms, norm_values, strict=True)}
        values |= {name: means[name] for name in self.method.observed.values}
        return Done(values | ({} if is_finite else {"skipped": True}), max(waits), int(max(codes)), is_finite)

    def _told(
        self, values: dict[str, Tensor], norms: dict[str, Tensor], waited: float, code: int
    ) -> tuple[dict[str, float], list[float], list[float], list[float]]:
        """Return means of the values over all processes, norms, and seconds waited and stop codes of each process."""
        own = [*values.values(), *norms.values()]
        told = torch.stack([value.detach().to(torch.float32) for value in own])
        if self.world.size == 1:
            numbers = told.tolist()
            return dict(zip(values, numbers, strict=False)), numbers[len(values) :], [waited], [code]
        rows = all_rows(torch.cat([told, told.new_tensor([waited, code])]), self.world).double()
        numbers = rows.mean(0).tolist()[: len(values)] + rows[0].tolist()[len(values) : len(own)]
        waits, codes = rows[:, -2:].T.tolist()
        return dict(zip(values, numbers, strict=False)), numbers[len(values) :], waits, codes

    def _accumulate(self, batches: Iterator[tuple[Any, float]], progress: Progress) -> tuple[dict[str, Tensor], float]:
        passes, waited = self.plan.training.passes, 0.0
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
        return sums, waited

    def _count_bad(self, is_finite: bool) -> None:
        self.num_bad = 0 if is_finite else self.num_bad + 1
        self.num_skipped += not is_finite

    def check(self) -> None:
        """End the run where too many steps in a row were skipped.

        Raises:
            ScanloreError: They were.
        """
        if self.num_bad >= self.plan.training.max_bad_steps:
            what = f"gradients were not finite for {self.num_bad} steps in a row"
            raise ScanloreError(what, where=f"step {self.step}", fix=f"{REMEDY}; the last checkpoint is intact")

    def end(self) -> None:
        """Say how many steps were skipped; a run without a single update has trained nothing."""
        if self.num_skipped == self.step:
            raise ScanloreError("the gradients of no step were finite: nothing was trained", fix=REMEDY)
        if self.num_skipped:
            logger.warning("%d of %d steps were skipped: their gradients were not finite", self.num_skipped, self.step)


def _is_finite(value: float) -> bool:
    return value - value == 0
