"""`scanlore pretrain`: from a corpus to a model folder, in one stage or several."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scanlore.errors import ConfigError, ScanloreError
from scanlore.training.stages import Stage, read_stages

if TYPE_CHECKING:
    from scanlore.corpus.index import Corpus
    from scanlore.training.parallel import World
    from scanlore.verbs.pretrain_plan import DryRun
    from scanlore.verbs.pretrain_prepare import RunPlan
    from scanlore.verbs.pretrain_run import Stopped


@dataclass(frozen=True)
class PretrainResult:
    """What a pretraining run left.

    Attributes:
        out: The run folder.
        model: The model folder in it.
        state: `new`, `continued`, `finished` (nothing was done), `stopped` (by a signal; the same call goes on) or
            `planned` (nothing was written).
        steps: Optimiser steps done; of the last stage where there are several.
        metrics: The last row of its metrics.
        warnings: Alarms of the health report.
        stopped_by: What stopped it.
        plan: What a dry run found, one for every stage.
    """

    out: Path
    model: Path
    state: str
    steps: int
    metrics: dict[str, Any]
    warnings: list[str]
    stopped_by: str | None = None
    plan: tuple[DryRun, ...] = ()


def pretrain(
    corpus: str | Path,
    recipe: str,
    out: str | Path,
    overrides: Sequence[str] = (),
    device: str = "auto",
    weights: str | Path | None = None,
    dry_run: bool = False,
) -> PretrainResult:
    """Pretrain a backbone on a corpus.

    The same call goes on with an interrupted run, and says so for a finished one.

    Args:
        corpus: Folder made by `build_corpus`.
        recipe: Name of a shipped recipe, or the path of a YAML file.
        out: The run folder.
        overrides: Dotted settings, e.g. `["optim.lr=1e-3"]`.
        device: `auto`, `cpu`, `cuda` ...
        weights: Reference of the model to continue, in place of the recipe's `start.weights`.
        dry_run: Whether to estimate memory, disk and time, run one step and write nothing.

    Raises:
        ConfigError: A setting is wrong, or `out` holds something else.
        DataError: The corpus cannot be used.
        ModelError: The model to continue cannot be used, or does not fit.
    """
    stages = read_stages(recipe, overrides, None if weights is None else str(weights))
    first = stages[0].settings.start
    if first.needed and not first.weights:
        raise ConfigError("continues a model", where=recipe, fix="--weights MODEL, see `scanlore models list`")
    from scanlore.corpus.index import Corpus

    opened = Corpus(Path(corpus))
    from scanlore.training.parallel import open_world

    with open_world(device) as world:
        if dry_run:
            return _plan(opened, stages, Path(out), world)
        if len(stages) == 1 and not stages[0].name:
            return _single(opened, stages[0], Path(out), world)
        return _staged(opened, stages, Path(out), world)


def _plan(corpus: Corpus, stages: Sequence[Stage], out: Path, world: World) -> PretrainResult:
    from scanlore.verbs.pretrain_plan import plan_stage
    from scanlore.verbs.pretrain_prepare import prepare

    plans = [prepare(corpus, stage.settings, world, stage.settings.start.weights) for stage in stages]
    found = tuple(plan_stage(plan, out, world, stage.name) for plan, stage in zip(plans, stages, strict=True))
    return PretrainResult(out, out / "model", "planned", 0, {}, [], plan=found)


def _single(corpus: Corpus, stage: Stage, out: Path, world: World) -> PretrainResult:
    from scanlore.run import check_run
    from scanlore.training.parallel import meet
    from scanlore.verbs.pretrain_prepare import FREE, prepare
    from scanlore.verbs.pretrain_run import Stopped, run

    plan = prepare(corpus, stage.settings, world, stage.settings.start.weights)
    state = check_run(out, "pretrain", plan.plain, FREE)
    meet(world)  # nobody writes before everybody has looked
    if state == "finished":
        return _result(out, state, world)
    try:
        run(plan, out, world)
    except Stopped as stop:
        return _stopped(out, stop, world)
    return _result(out, state, world)


def _staged(corpus: Corpus, stages: Sequence[Stage], out: Path, world: World) -> PretrainResult:
    """Run the stages one after the other, each a run folder of its own below `stages`."""
    from scanlore.run import Run, check_run
    from scanlore.training.parallel import meet
    from scanlore.verbs.pretrain_prepare import FREE
    from scanlore.verbs.pretrain_run import Stopped

    plans = _plans(corpus, stages, out, world)
    plain = {"stages": {stage.name: plan.plain for stage, plan in zip(stages, plans, strict=True)}}
    free = tuple(f"stages.{stage.name}.{key}" for stage in stages for key in FREE)
    state = check_run(out, "pretrain", plain, free)
    meet(world)
    if state == "finished":
        return _result(out, state, world, stages[-1].name)
    try:
        if not world.is_main:
            _run_stages(plans, stages, out, world)
            return _result(out, state, world)
        whole = Run(out, "pretrain", plain, free)
        with whole.logging():
            _run_stages(plans, stages, out, world)
            _link(out / "stages" / stages[-1].name / "model", out / "model")
    except Stopped as stop:
        return _stopped(out, stop, world)
    finally:
        if world.is_main and (out / "run.json").is_file():
            _write_page(out)
    return _result(out, state, world, stages[-1].name)


def _stopped(out: Path, stop: Stopped, world: World) -> PretrainResult:
    """Return what a stopped run left.

    Raises:
        ScanloreError: It was getting worse than its start.
    """
    from scanlore.training.signals import GUARD

    warnings = _warnings(out) if world.is_main else []
    if stop.by == GUARD and warnings:
        raise ScanloreError(warnings[-1], where=out, fix=f"stopped behind the checkpoint of step {stop.step}")
    return PretrainResult(out, out / "model", "stopped", stop.step, {}, warnings, stop.by)


def _warnings(out: Path) -> list[str]:
    runs = [*sorted((out / "stages").glob("*/run.json")), out / "run.json"]
    return [text for path in runs for text in json.loads(path.read_text(encoding="utf-8")).get("warnings", [])]


def _plans(corpus: Corpus, stages: Sequence[Stage], out: Path, world: World) -> list[RunPlan]:
    from scanlore.verbs.pretrain_prepare import prepare

    plans, before = [], ""
    for stage in stages:
        reference = stage.settings.start.weights
        if before:
            at = "" if stage.start_step is None else f"@{stage.start_step}"
            reference, before = f"{out / 'stages' / before}{at}", f"{before}{at}"
        plans.append(prepare(corpus, stage.settings, world, reference, before))
        before = stage.name
    return plans


def _run_stages(plans: Sequence[RunPlan], stages: Sequence[Stage], out: Path, world: World) -> None:
    from scanlore.run import check_run
    from scanlore.training.parallel import meet
    from scanlore.verbs.pretrain_prepare import FREE
    from scanlore.verbs.pretrain_run import run

    for stage, plan in zip(stages, plans, strict=True):
        folder = out / "stages" / stage.name
        state = check_run(folder, "pretrain", plan.plain, FREE)
        meet(world)
        if state != "finished":
            run(plan, folder, world)
        meet(world)  # the next stage reads what the first process has written


def _link(source: Path, target: Path) -> None:
    """Put a model folder in a second place without a second copy of its bytes where the file system can."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        shutil.copytree(source, temporary, copy_function=os.link)
    except OSError:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.copytree(source, temporary)
    shutil.rmtree(target, ignore_errors=True)
    temporary.rename(target)


def _write_page(out: Path) -> None:
    from scanlore.reports.run_page import write_run_page
    from scanlore.verbs.pretrain_watch import surviving

    with surviving("report.html"):
        write_run_page(out, is_running=False)


def _result(out: Path, state: str, world: World, last_stage: str = "") -> PretrainResult:
    from scanlore.training.metrics import read_rows

    model = out / "model"
    if not world.is_main:  # the first process may still be writing
        return PretrainResult(out, model, state, 0, {}, [])
    run = out / "stages" / last_stage if last_stage else out
    last = read_rows(run / "metrics.jsonl")[-1]
    finite = {key: value for key, value in last.items() if not isinstance(value, float) or math.isfinite(value)}
    return PretrainResult(out, model, state, last["step"], finite, _warnings(out))
