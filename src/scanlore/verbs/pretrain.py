"""`scanlore pretrain`: from a corpus to a model folder."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scanlore.config import apply_overrides, load_recipe, validate
from scanlore.errors import DataError
from scanlore.methods.settings import DinoSettings
from scanlore.modelfolder.seen import write_seen
from scanlore.progress import progress_bar
from scanlore.run import Run, check_run, write_atomically
from scanlore.training.optim_settings import AdamWSettings
from scanlore.training.settings import PretrainSettings

if TYPE_CHECKING:
    from torch import nn

    from scanlore.corpus.index import Corpus, StoredScans
    from scanlore.methods.contract import Method
    from scanlore.training.loop import Look
    from scanlore.training.parallel import World
    from scanlore.verbs.looks import Looks
    from scanlore.views.loader import Batch, LoaderPlan

logger = logging.getLogger("scanlore")


@dataclass(frozen=True)
class PretrainResult:
    """What a pretraining run left.

    Attributes:
        out: The run folder.
        model: The model folder in it.
        state: `new`, `continued` or `finished` (nothing was done).
        steps: Optimiser steps of the run.
        metrics: The last row of its metrics.
        warnings: Alarms of the health report.
    """

    out: Path
    model: Path
    state: str
    steps: int
    metrics: dict[str, Any]
    warnings: list[str]


def pretrain(
    corpus: str | Path,
    recipe: str,
    out: str | Path,
    overrides: Sequence[str] = (),
    device: str = "auto",
) -> PretrainResult:
    """Pretrain a backbone on a corpus.

    The same call goes on with an interrupted run, and says so for a finished one.

    Args:
        corpus: Folder made by `build_corpus`.
        recipe: Name of a shipped recipe, or the path of a YAML file.
        out: The run folder.
        overrides: Dotted settings, e.g. `["optim.lr=1e-3"]`.
        device: `auto`, `cpu`, `cuda` ...

    Raises:
        ConfigError: A setting is wrong, or `out` holds something else.
        DataError: The corpus cannot be used.
    """
    settings = validate(PretrainSettings, apply_overrides(load_recipe(recipe, "pretrain"), overrides), where=recipe)
    from scanlore.corpus.index import Corpus

    opened = Corpus(Path(corpus))
    from scanlore.training.parallel import meet, open_world

    with open_world(device) as world:
        resolved = _resolve(settings, world)
        scans = _select(opened, resolved)
        plain = resolved.model_dump(mode="json", exclude={"description", "source"})
        plain["corpus"] = opened.fingerprint(resolved.data.split)
        state = check_run(Path(out), "pretrain", plain)
        meet(world)  # nobody writes before everybody has looked
        if state == "finished":
            return _result(Path(out), state)
        if not world.is_main:
            _train(resolved, scans, Path(out), world, None)
            return PretrainResult(Path(out), Path(out) / "model", state, resolved.training.steps, {}, [])
        looks = _open_looks(resolved, scans, world, Path(out))
        run = Run(Path(out), "pretrain", plain)
        with run.logging():
            _write_data(run.out, opened, scans, resolved.data.split)
            write_seen(run.out, scans)
            method = _train(resolved, scans, run.out, world, _looker(resolved, looks, run))
            _export(method.exported(), resolved, scans, run.out)
    return _result(Path(out), state)


def _resolve(settings: PretrainSettings, world: World) -> PretrainSettings:
    """Replace every `auto` that changes what is computed, once."""
    from scanlore.backbones.device import resolve_precision
    from scanlore.errors import ConfigError

    training = settings.training
    if training.batch_size % (training.accumulate * world.size):
        what = f"training.batch_size {training.batch_size} does not divide over {world.size} processes"
        raise ConfigError(what, fix="choose a multiple of processes x training.accumulate")
    precision = resolve_precision(training.precision, world.device)
    return settings.model_copy(update={"training": training.model_copy(update={"precision": precision})})


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


def _write_data(out: Path, corpus: Corpus, scans: StoredScans, split: str | None) -> None:
    facts = {"corpus": str(corpus.root), "fingerprint": corpus.fingerprint(split), "num_entries": len(scans)}
    write_atomically(out / "data.json", json.dumps(facts, indent=2) + "\n")


def _train(settings: PretrainSettings, scans: StoredScans, out: Path, world: World, look: Look | None) -> Method:
    from scanlore.backbones.build import build_backbone
    from scanlore.methods.build import build_method
    from scanlore.training.loop import Callbacks, LoopPlan, train
    from scanlore.training.parallel import default_workers
    from scanlore.views.loader import batches, to_device

    method = build_method(build_backbone(settings.backbone, settings.seed), settings.method, settings.seed)
    method.as_module().to(world.device)
    plan = _plan(settings, scans, world)
    asked = settings.training.num_workers
    num_workers = default_workers(world) if asked == "auto" else asked
    with progress_bar("pretraining", "steps", is_shown=world.is_main) as advance:

        def progress(values: dict[str, Any], timings: dict[str, Any]) -> None:
            speed, waiting = timings["scans_per_second"], timings["data_wait"]
            note = f"loss {values['loss']:.3f}  {speed:.1f} scans/s  waiting for data {waiting:.0%}"
            advance(values["step"], settings.training.steps, note)

        def loader(first: int, stop: int) -> Iterator[Batch]:
            return batches(plan, first, stop, num_workers)

        def prepare(batch: Batch) -> Batch:
            return to_device(batch, world.device, clip=settings.views.clips)

        every = settings.health.every
        loop = LoopPlan(settings.training, settings.optim, settings.seed, every)
        train(method, loop, out, world, Callbacks(loader, prepare, look, progress))
    return method


def _plan(settings: PretrainSettings, scans: StoredScans, world: World) -> LoaderPlan:
    from scanlore.views.loader import LoaderPlan
    from scanlore.views.policy import build_policy

    return LoaderPlan(
        scans=scans,
        policy=build_policy(settings.views, settings.seed, settings.backbone.patch_size),
        batch_size=settings.training.batch_size // (world.size * settings.training.accumulate),
        rank=world.rank,
        world_size=world.size,
    )


def _open_looks(settings: PretrainSettings, scans: StoredScans, world: World, out: Path) -> Looks | None:
    if not settings.health.every:
        return None
    from scanlore.verbs.looks import Looks

    return Looks(settings, scans, world.device, _plan(settings, scans, world), out)


def _looker(settings: PretrainSettings, looks: Looks | None, run: Run) -> Look | None:
    if looks is None:
        return None
    from scanlore.training.health import alarm

    warnings: list[str] = list(run.record.get("warnings", []))

    def look(method: Method, values: dict[str, Any]) -> dict[str, Any]:
        found = looks(method, values["step"])
        seen = "  ".join(f"{name} {value:.3f}" for name, value in ({"loss": values["loss"]} | found).items())
        logger.info("step %d: %s", values["step"], seen)
        if not isinstance(settings.method, DinoSettings) or not isinstance(settings.optim, AdamWSettings):
            return found  # what is rebuilt voxel by voxel cannot collapse
        if values["step"] <= settings.optim.warmup * settings.training.steps:
            return found  # an untrained network has hardly any spread, and so far it is little else
        warning = alarm(found | values, settings.method.head.prototypes)
        text = f"step {values['step']}: {warning}"
        if warning and text not in warnings:
            logger.warning(text)
            warnings.append(text)
            run.note(warnings=warnings)
        return found

    return look


def _export(backbone: nn.Module, settings: PretrainSettings, scans: StoredScans, out: Path) -> None:
    from scanlore.modelfolder.folder import save_model_folder
    from scanlore.modelfolder.reference import preprocessing_of

    provenance = {
        "method": settings.method.name,
        "recipe": settings.source or settings.description,
        "steps": settings.training.steps,
        "batch_size": settings.training.batch_size,
        "num_entries": len(scans),
        "seed": settings.seed,
    }
    preprocessing = preprocessing_of(settings.views.model_dump(mode="json"), settings.embedding)
    save_model_folder(out / "model", backbone, settings.backbone, preprocessing, provenance)
    write_seen(out / "model", scans)


def _result(out: Path, state: str) -> PretrainResult:
    from scanlore.training.metrics import read_rows

    record = json.loads((out / "run.json").read_text(encoding="utf-8"))
    last = read_rows(out / "metrics.jsonl")[-1]
    finite = {key: value for key, value in last.items() if not isinstance(value, float) or math.isfinite(value)}
    return PretrainResult(out, out / "model", state, last["step"], finite, record.get("warnings", []))
