"""What a pretraining run is, once its settings, its corpus and this machine have been checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from scanlore.backbones.build import build_backbone
from scanlore.corpus.index import Corpus, StoredScans
from scanlore.errors import ConfigError, DataError, ModelError
from scanlore.methods.build import build_method
from scanlore.methods.settings import DinoSettings
from scanlore.modelfolder.start import load_start
from scanlore.training.parallel import World, from_main
from scanlore.training.settings import PretrainSettings
from scanlore.views.loader import LoaderPlan
from scanlore.views.policy import build_policy

FREE = ("parallel.", "training.num_workers")
"""Settings that say where and how fast a run goes on, not what it computes."""


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
        stage_before: Name of the stage that will leave that model, and its step.

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
        _check_start(resolved, reference)
    plain = resolved.model_dump(mode="json", exclude={"description", "source"})
    if stage_before:
        plain["start"]["weights"] = f"stage {stage_before}"
    plain["corpus"] = corpus.fingerprint(resolved.data.split)
    return RunPlan(resolved, scans, corpus, reference, plain)


def _check_start(settings: PretrainSettings, reference: str) -> None:
    """Refuse a model that the run could not start from, before anything is written."""
    start = load_start(settings.start.model_copy(update={"weights": reference}), settings.backbone)
    if not start.heads:
        return
    with torch.device("meta"):
        method = build_method(build_backbone(settings.backbone), settings.method, settings.seed)
    try:
        method.start_from(start.heads)
    except ModelError as error:
        fix = "--set start.heads=fresh, or set method.head and method.separate_head as in the weights"
        raise ModelError(error.what, where=reference, fix=fix) from None


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
        largest = num_scans - num_scans % (training.passes * world.size)
        raise ConfigError(what, fix=f"--set training.batch_size={largest}, or add scans")
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
