"""`scanlore pretrain --dry-run`: what a run will need, beside what one of its steps took."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scanlore.training.parallel import World
from scanlore.training.planner import Estimate, Measured, check_fits, estimate, measure, memory_limit
from scanlore.training.settings import PretrainSettings
from scanlore.verbs.pretrain_prepare import RunPlan, loader_plan
from scanlore.views.settings import MultiCropSettings

PARTS = ("parameters", "gradients", "optimizer", "teacher", "batch", "activations", "overhead")


@dataclass(frozen=True)
class DryRun:
    """A stage that was planned.

    Attributes:
        stage: Its name; empty where the recipe has none.
        steps: Of the whole run.
        estimate: Before anything ran.
        measured: Of one step; `None` with several processes.
        free_disk: Bytes free where the run will lie.
    """

    stage: str
    steps: int
    estimate: Estimate
    measured: Measured | None
    free_disk: int

    def rows(self) -> list[dict[str, Any]]:
        """Return what to print: estimates, and measurements where there are any."""
        found = self.estimate
        rows = [
            _row("batch", f"{found.scans_per_pass} scans a pass, {found.accumulate} passes a step"),
            _row("memory of a device", _size(found.peak)),
            *(_row(f"- {part}", _size(getattr(found, part))) for part in PARTS if getattr(found, part)),
            _row("shared memory of a loader process", _size(found.loader_queue)),
            _row("disk", f"{_size(found.disk)}, a checkpoint {_size(found.checkpoint)}; {_size(self.free_disk)} free"),
            _row("work of a step", f"{found.flops / 1e12:.3g} TFLOP"),
        ]
        if found.seconds is not None and found.efficiency is not None and found.total_seconds is not None:
            share = f"{found.efficiency:.0%} of the rate of matrix products"
            rows.append(_row("seconds a step", f"{found.seconds:.3g}, {share}"))
            rows.append(_row("whole run", _hours(found.total_seconds)))
        if self.measured is not None:
            rows = _beside(rows, found, self.measured, self.steps)
        return [{"stage": self.stage} | row if self.stage else row for row in rows]


def _beside(rows: list[dict[str, Any]], found: Estimate, took: Measured, steps: int) -> list[dict[str, Any]]:
    """Return the rows with what was measured beside what was estimated."""
    ratio = found.seconds and took.seconds / found.seconds
    measured = {
        "memory of a device": (_size(took.peak_bytes), took.peak_bytes / found.peak),
        "seconds a step": (f"{took.seconds:.3g}", ratio),
        "whole run": (_hours(took.seconds * steps), ratio),
    }
    filled = []
    for row in rows:
        value, share = measured.get(row["what"], ("", None))
        filled.append(row | {"measured": value, "measured / estimated": share})
    loading = {"what": "seconds one process reads views for a step", "estimated": ""}
    return [*filled, loading | {"measured": f"{took.load_seconds:.3g}", "measured / estimated": None}]


def plan_stage(plan: RunPlan, out: Path, world: World, stage: str) -> DryRun:
    """Estimate a run, and do one step of it where this process is alone.

    Args:
        plan: The run.
        out: Where it would lie; nothing is written.
        world: Where this process stands.
        stage: Its name in the recipe.

    Raises:
        ConfigError: It does not fit the device.
    """
    settings = plan.settings
    found = max(
        (estimate(one, world.device, world.size, len(plan.scans)) for one in _each_resolution(settings)),
        key=lambda one: one.peak,
    )
    check_fits(settings, found, memory_limit(world.device))
    measured = measure(settings, loader_plan(plan, world), world.device) if world.size == 1 else None
    place = next(folder for folder in (out, *out.absolute().parents) if folder.is_dir())
    return DryRun(stage, settings.training.steps, found, measured, shutil.disk_usage(place).free)


def _each_resolution(settings: PretrainSettings) -> list[PretrainSettings]:
    if not isinstance(settings.views, MultiCropSettings):
        return [settings]
    return [settings.model_copy(update={"views": views}) for views in settings.views.each_resolution()]


def _row(what: str, estimated: str) -> dict[str, Any]:
    return {"what": what, "estimated": estimated}


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.1f} min"
