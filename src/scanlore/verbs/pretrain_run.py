"""One pretraining run: from checked settings to a run folder with its model."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from scanlore.corpus.index import Corpus, StoredScans
from scanlore.errors import ConfigError, DataError
from scanlore.methods.contract import Method
from scanlore.methods.settings import DinoSettings
from scanlore.modelfolder.folder import OWN_LICENCE, save_model_folder
from scanlore.modelfolder.reference import preprocessing_of
from scanlore.modelfolder.seen import write_seen
from scanlore.modelfolder.start import Start, load_start
from scanlore.progress import progress_bar
from scanlore.reports.run_page import write_run_page
from scanlore.run import Run, write_atomically
from scanlore.training.loop import Callbacks, LoopPlan, train
from scanlore.training.parallel import World, default_workers, from_main
from scanlore.training.settings import PretrainSettings
from scanlore.verbs.pretrain_watch import Watch, surviving
from scanlore.views.loader import Batch, LoaderPlan, batches, to_device
from scanlore.views.policy import build_policy

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


@dataclass(frozen=True)
class RunPlan:
    """A run whose settings and inputs have been checked.

    Attributes:
        settings: With every `auto` that changes the result resolved.
        scans: What it trains on.
        corpus: Where they are from.
        reference: The model it continues, as this process finds it; `None` for fresh weights.
        plain: What the run is told from others by.
    """

    settings: PretrainSettings
    scans: StoredScans
    corpus: Corpus
    reference: str | None
    plain: dict[str, Any]


def prepare(
    corpus: Corpus, settings: PretrainSettings, world: World, reference: str | None, stage_before: str = ""
) -> RunPlan:
    """Check the settings of a run against its corpus and this machine.

    Args:
        corpus: To train on.
        settings: Of the run.
        world: Where this process stands.
        reference: The model it continues.
        stage_before: Name of the stage that will leave that model.

    Raises:
        ConfigError: The batch does not fit the processes or the corpus.
        DataError: The corpus has too few scans for the recipe.
        ModelError: The model does not fit the recipe.
    """
    scans = _select(corpus, settings)
    resolved = _resolve(settings, world, len(scans))
    gram = resolved.method.gram if isinstance(resolved.method, DinoSettings) else None
    if gram is not None and gram.teacher == "start" and not reference:
        fix = "--weights MODEL, or method.gram.teacher=ema"
        raise ConfigError("method.gram.teacher: start needs weights that the run starts from", fix=fix)
    if reference and not stage_before:
        load_start(resolved.start.model_copy(update={"weights": reference}), resolved.backbone)  # or refused here
    plain = resolved.model_dump(mode="json", exclude={"description", "source"})
    if stage_before:
        plain["start"]["weights"] = f"stage {stage_before}"
    plain["corpus"] = corpus.fingerprint(resolved.data.split)
    return RunPlan(resolved, scans, corpus, reference, plain)


def _select(corpus: Corpus, settings: PretrainSettings) -> StoredScans:
    ndim = 3 if settings.views.ndim == 3 else None
    scans = corpus.select(ndim=ndim, slices_above=settings.data.slices_above, split=settings.data.split)
    if settings.data.hold_out:
        from scanlore.verbs.hold_out import held_out_ids

        scans = scans.without(held_out_ids(settings.data.hold_out, settings.data.hold_out_fold))
    if len(scans) < 2:
        wanted = f"{settings.views.ndim}D recipe needs at least 2 scans"
        detail = f" with more than {settings.data.slices_above} slices" if ndim == 3 else ""
        detail += " that are not held out" if settings.data.hold_out else ""
        fix = "see `scanlore corpus show`, or choose a recipe of the corpus's kind"
        raise DataError(f"a {wanted}{detail}; the corpus has {len(scans)}", where=corpus.root, fix=fix)
    return scans


def _resolve(settings: PretrainSettings, world: World, num_scans: int) -> PretrainSettings:
    """Replace every `auto` that changes what is computed, once."""
    from scanlore.backbones.device import resolve_precision

    training = settings.training
    if training.batch_size > num_scans:
        what = f"training.batch_size {training.batch_size} is larger than the corpus of {num_scans} scans"
        raise ConfigError(what, fix=f"--set training.batch_size={_largest_batch(num_scans, world)}, or add scans")
    if training.batch_size % (training.passes * world.size):
        what = f"training.batch_size {training.batch_size} does not divide over {world.size} processes"
        raise ConfigError(what, fix="choose a multiple of processes x training.accumulate")
    update: dict[str, Any] = {"precision": resolve_precision(training.precision, world.device)}
    resolved = settings.model_copy(update={"training": training.model_copy(update=update)})
    if training.accumulate != "auto":
        return resolved
    from scanlore.training.planner import fit

    passes = fit(resolved, world.device, world.size)[1] if world.is_main else 0
    update["accumulate"] = from_main(world, passes)  # what is free differs from device to device
    return settings.model_copy(update={"training": training.model_copy(update=update)})


def _largest_batch(num_scans: int, world: World) -> int:
    share = 2 ** ((num_scans // world.size).bit_length() - 1) if num_scans >= world.size else 1
    return share * world.size


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
    folder = Run(out, "pretrain", plan.plain)
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


def loader_plan(plan: RunPlan, world: World) -> LoaderPlan:
    """Return what the loader of this process gives."""
    settings = plan.settings
    return LoaderPlan(
        scans=plan.scans,
        policy=build_policy(settings.views, settings.seed, settings.backbone.patch_size),
        batch_size=settings.training.batch_size // (world.size * settings.training.passes),
        rank=world.rank,
        world_size=world.size,
    )


def build(plan: RunPlan, world: World, start: Start | None) -> Method:
    """Build the method of a run on the device of this process, with the weights it starts from."""
    from scanlore.backbones.build import build_backbone
    from scanlore.methods.build import build_method
    from scanlore.modelfolder.folder import fill

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
    loader = loader_plan(plan, world)
    method = build(plan, world, start)
    asked = settings.training.num_workers
    num_workers = default_workers(world) if asked == "auto" else asked
    page = _LivePage(out)
    with progress_bar("pretraining", "steps", is_shown=world.is_main) as advance:

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
        look = None if watch is None else watch.look
        callbacks = Callbacks(load, prepare_batch, look, progress, export=export, blame=_blame)
        end = train(method, loop, out, world, callbacks)
    if end.stopped_by:
        raise Stopped(end.step, end.stopped_by)


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
