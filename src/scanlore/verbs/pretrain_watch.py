"""What watches a pretraining run: looks at its features, the collapse alarm, the guard of continued runs."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import nn

from scanlore.methods.contract import Method
from scanlore.methods.settings import DinoSettings
from scanlore.modelfolder.start_settings import StartSettings
from scanlore.run import Run
from scanlore.training.health import alarm
from scanlore.training.metrics import read_rows
from scanlore.training.optim_settings import AdamWSettings
from scanlore.training.parallel import World
from scanlore.verbs.looks import Looks
from scanlore.verbs.pretrain_prepare import RunPlan, loader_plan
from scanlore.views.loader import Batch

REMEDY = "Lower optim.lr, or raise start.head_warmup or start.anchor"
logger = logging.getLogger("scanlore")
Row = dict[str, Any]


@contextlib.contextmanager
def surviving(what: str) -> Iterator[None]:
    """Let a picture that cannot be drawn be told instead of ending days of training."""
    try:
        yield
    except Exception:
        logger.warning("%s could not be written", what, exc_info=True)


class Guard:
    """Compares kNN accuracy with that of the start.

    Args:
        settings: Margin, patience and what happens.
    """

    def __init__(self, settings: StartSettings) -> None:
        self.settings = settings
        self.start: float | None = None
        self.best: tuple[float, int] = (-1.0, 0)
        self.num_below = 0

    def judge(self, step: int, accuracy: float) -> str | None:
        """Return a warning when accuracy has been below the start's for some looks in a row, else `None`.

        Args:
            step: Of the look; the first one sets the level.
            accuracy: 0 to 1.

        """
        self.best = max(self.best, (accuracy, step))
        if self.start is None:
            self.start = accuracy
            return None
        is_below = accuracy < self.start - self.settings.guard_margin
        self.num_below = self.num_below + 1 if is_below else 0
        if self.num_below < self.settings.guard_patience:
            return None
        what = f"kNN accuracy is {accuracy:.3f}, below the {self.start:.3f} of the weights it started from"
        best = f"best was {self.best[0]:.3f} at step {self.best[1]}"
        return f"getting worse than its start: {what}; {best}. {REMEDY}"


class Watch:
    """The eyes of a run's main process.

    Args:
        plan: Of the run.
        world: Where this process stands.
        out: The run folder.

    Raises:
        DataError: The labelled folder is no task.
    """

    def __init__(self, plan: RunPlan, world: World, out: Path) -> None:
        self.settings, self.out = plan.settings, out
        self.looks = None
        if plan.settings.health.every:
            self.looks = Looks(plan.settings, plan.scans, world.device, loader_plan(plan, world), out)
        is_guarded = bool(plan.reference) and plan.settings.start.guard != "off"
        self.guard = Guard(plan.settings.start) if is_guarded else None
        self.has_shown = False

    def attach(self, run: Run) -> Watch:
        """Take up the warnings and the looks of an interrupted run."""
        self.run, self.warnings = run, list(run.record.get("warnings", []))
        for row in read_rows(self.out / "metrics.jsonl"):
            if self.guard is not None and "knn_accuracy" in row:
                self.guard.judge(row["step"], row["knn_accuracy"])
        if self.guard is not None and self.settings.health.labelled is None:
            logger.info("no guard against getting worse than the start: health.labelled is not set")
        return self

    def show_first(self, batch: Batch) -> None:
        """Draw the first batch of a new run."""
        path = self.out / "previews" / "first_batch.png"
        if not self.has_shown and not path.exists():
            with surviving(str(path)):
                from scanlore.reports.view_sheet import draw_views

                draw_views(batch, self.settings, path)
        self.has_shown = True

    def look(self, method: Method, exported: nn.Module, values: Row) -> Row:
        """Return what the features are like at a step, and warn when they are bad."""
        if self.looks is None:
            return {}
        step = values["step"]
        found = self.looks(method, exported, step)
        shown = {key: value for key, value in values.items() if key == "loss"} | found
        logger.info("step %d: %s", step, "  ".join(f"{name} {value:.3f}" for name, value in shown.items()))
        self._warn(step, self._alarm(step, found | values))
        if self.guard is not None and "knn_accuracy" in found:
            worse = self.guard.judge(step, found["knn_accuracy"])
            self._warn(step, worse)
            return found | {"stop": bool(worse) and self.settings.start.guard == "stop"}
        return found

    def _alarm(self, step: int, values: Row) -> str | None:
        method, optim = self.settings.method, self.settings.optim
        if not isinstance(method, DinoSettings) or not isinstance(optim, AdamWSettings):
            return None  # what is rebuilt voxel by voxel cannot collapse
        if step <= optim.warmup_share(self.settings.training.steps) * self.settings.training.steps:
            return None  # an untrained network has hardly any spread, and so far it is little else
        return alarm(values, method.head.prototypes)

    def _warn(self, step: int, warning: str | None) -> None:
        text = f"step {step}: {warning}"
        if warning and text not in self.warnings:
            logger.warning(text)
            self.warnings.append(text)
            self.run.note(warnings=self.warnings)
