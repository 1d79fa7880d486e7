"""One pretraining run: from checked settings to a run folder with its model."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from scanlore.backbones.build import build_backbone
from scanlore.errors import DataError
from scanlore.methods.build import build_method
from scanlore.methods.contract import Method
from scanlore.modelfolder.folder import OWN_LICENCE, fill, save_model_folder
from scanlore.modelfolder.reference import preprocessing_of
from scanlore.modelfolder.seen import write_seen
from scanlore.modelfolder.start import Start, load_start
from scanlore.progress import Advance, progress_bar
from scanlore.reports.run_page import write_run_page
from scanlore.run import Run, write_atomically
from scanlore.training.loop import Callbacks, LoopPlan, train
from scanlore.training.parallel import World, default_workers
from scanlore.verbs.pretrain_prepare import FREE, RunPlan, loader_plan
from scanlore.verbs.pretrain_watch import Watch, surviving
from scanlore.views.loader import Batch, batches, to_device

logger = logging.getLogger("scanlore")
PAGE_EVERY = 30.0
"""Seconds between two versions of the live page, and at least this many times what writing it takes."""


class Stopped(SystemExit):
    """The run was stopped by a signal behind a whole checkpoint.

    Args:
        step: Steps done.
        by: What stopped it.
    """

    def __init__(self, step: int, by: str) -> None:
        super().__init__(0)
        self.step, self.by = step, by


def run(plan: RunPlan, out: Path, world: World) -> None:
    """Do a run, or go on with it.

    Raises:
        Stopped: A signal asked for it; the checkpoint is written.
    """
    start = None
    if plan.reference:
        settings = plan.settings.start.model_copy(update={"weights": plan.reference})
        start = load_start(settings, plan.settings.backbone)
    if not world.is_main:
        _train(plan, out, world, None, start)
        return
    watch = Watch(plan, world, out)
    folder = Run(out, "pretrain", plan.plain, FREE)
    try:
        with folder.logging():
            _write_data(plan, folder)
            if start is not None:
                for line in start.report.lines():
                    logger.info("%s", line)
            _train(plan, out, world, watch.attach(folder), start)
    finally:
        with surviving("report.html"):
            write_run_page(out, is_running=False)


def _write_data(plan: RunPlan, folder: Run) -> None:
    split = plan.settings.data.split
    facts = {
        "corpus": str(plan.corpus.root),
        "fingerprint": plan.corpus.fingerprint(split),
        "num_entries": len(plan.scans),
    }
    write_atomically(folder.out / "data.json", json.dumps(facts, indent=2) + "\n")
    write_seen(folder.out, plan.scans, plan.reference)


def build(plan: RunPlan, world: World, start: Start | None) -> Method:
    """Build the method of a run on the device of this process, with the weights it starts from."""
    settings = plan.settings
    backbone = build_backbone(settings.backbone, settings.seed)
    if start is not None:
        fill(backbone, start.backbone, plan.reference)
    method = build_method(backbone, settings.method, settings.seed)
    if start is not None:
        method.start_from(start.heads)
    if start is not None and not start.heads:
        warmup = settings.start.head_warmup
        method.rest_backbone(warmup, ramp=min(warmup, 1 - warmup))
    method.as_module().to(world.device)
    return method


def _train(plan: RunPlan, out: Path, world: World, watch: Watch | None, start: Start | None) -> None:
    settings = plan.settings
    method = build(plan, world, start)
    loop = LoopPlan(
        settings.training,
        settings.optim,
        settings.seed,
        settings.health.every,
        parallel=settings.parallel,
        look_first=start is not None and settings.health.every > 0,
        export_at=settings.training.export_at,
        anchor=settings.start.anchor if start is not None else 0.0,
    )
    with progress_bar("pretraining", "steps", is_shown=world.is_main) as advance:
        callbacks = _callbacks(plan, out, world, watch, start, advance)
        try:
            end = train(method, loop, out, world, callbacks)
        except torch.OutOfMemoryError:
            fix = "training.accumulate=auto takes passes that fit; --dry-run shows what needs how much"
            raise DataError("the memory of the device is full", where=world.device, fix=fix) from None
    if end.stopped_by:
        raise Stopped(end.step, end.stopped_by)


def _callbacks(
    plan: RunPlan, out: Path, world: World, watch: Watch | None, start: Start | None, advance: Advance
) -> Callbacks:
    settings, loader, page = plan.settings, loader_plan(plan, world), _LivePage(out)
    asked = settings.training.num_workers
    num_workers = default_workers(world) if asked == "auto" else asked

    def progress(values: dict[str, Any], timings: dict[str, Any]) -> None:
        speed, waiting = timings["scans_per_second"], timings["data_wait"]
        note = f"loss {values['loss']:.3f}  {speed:.1f} scans/s  waiting for data {waiting:.0%}"
        advance(values["step"], settings.training.steps, note)
        page.refresh()

    def load(first: int, stop: int) -> Iterator[Batch]:
        return batches(loader, first, stop, num_workers)

    def prepare_batch(batch: Batch) -> Batch:
        if watch is not None:
            watch.show_first(batch)
        return to_device(batch, world.device, clip=settings.views.clips)

    def export(step: int, network: nn.Module, heads: dict[str, Tensor]) -> None:
        is_last = step == settings.training.steps
        folder = out / "model" if is_last else out / "exports" / f"step_{step:08d}"
        _export(plan, folder, network, heads, start, step)

    look = None if watch is None else watch.look
    return Callbacks(load, prepare_batch, look, progress, export=export, blame=_blame)


def _blame(batch: Batch) -> str:
    """Return which scans of a batch hold voxels that are not finite."""
    bad = set()
    for group in batch.groups.values():
        rows = (~group.pixels.flatten(1).isfinite().all(1)).nonzero().flatten().tolist()
        bad |= {batch.scans[row % len(batch.scans)] for row in rows}
    return f"voxels that are not finite in scan {', '.join(sorted(bad))}" if bad else ""


class _LivePage:
    """Writes the page of a run again when some time has passed."""

    def __init__(self, out: Path) -> None:
        self.out, self.next = out, 0.0

    def refresh(self) -> None:
        began = time.monotonic()
        if began >= self.next:
            with surviving("report.html"):
                write_run_page(self.out, is_running=True)
            ended = time.monotonic()
            self.next = ended + PAGE_EVERY * max(1.0, ended - began)


def _export(
    plan: RunPlan, folder: Path, network: nn.Module, heads: dict[str, Tensor], start: Start | None, step: int
) -> None:
    settings = plan.settings
    provenance: dict[str, Any] = {
        "method": settings.method.name,
        "recipe": settings.source or settings.description,
        "steps": step,
        "batch_size": settings.training.batch_size,
        "num_entries": len(plan.scans),
        "seed": settings.seed,
    }
    licence = OWN_LICENCE
    if start is not None:
        provenance["start"] = plan.plain["start"]["weights"]
        licence = start.facts.get("licence", OWN_LICENCE)
    preprocessing = preprocessing_of(settings.views.model_dump(mode="json"), settings.embedding)
    save_model_folder(folder, network, settings.backbone, preprocessing, provenance, licence, heads)
    write_seen(folder, plan.scans, plan.reference)
