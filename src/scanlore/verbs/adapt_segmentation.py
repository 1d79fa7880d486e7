"""`scanlore adapt` on a segmentation task."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scanlore.adaptation.segmentation_settings import LinearDecoderSettings, TransferSettings
from scanlore.errors import DataError
from scanlore.progress import progress_bar
from scanlore.run import Run, State, check_run
from scanlore.tasks.budget import Budget
from scanlore.verbs.adapt import Call, trial_id

if TYPE_CHECKING:
    from scanlore.adaptation.fit_segmentation import SegmentationFit
    from scanlore.adaptation.segmentation_plan import SegmentationPlan
    from scanlore.evaluation.segmentation_trial import Predictor, SegmentationTrial
    from scanlore.modelfolder.model import Model
    from scanlore.modelfolder.segmenter import Segmenter
    from scanlore.tasks.labelled_index import LabelledStore
    from scanlore.tasks.segmentation import SegmentationCase, SegmentationTask
    from scanlore.tasks.splits import Splits

STORE = "cases"
SPLIT_SEED = 0
"""Test and validation cases are the same for every seed of a trial, so that they can be held out of pretraining."""


@dataclass(frozen=True)
class _Job:
    """Everything that was opened and checked before the run folder exists."""

    model: Model
    task: SegmentationTask
    splits: Splits
    chosen: list[int]
    settings: TransferSettings | LinearDecoderSettings
    config: dict[str, Any]
    device: str

    def cases(self, split: str) -> list[SegmentationCase]:
        return [self.task.cases[index] for index in self.splits.indices(split)]


def adapt_segmentation(call: Call, settings: TransferSettings | LinearDecoderSettings, labels: Budget) -> State:
    """Train a segmenter on the chosen scans of a task, predict and score its test scans, and write the run.

    Args:
        call: What was asked for.
        settings: Of the protocol.
        labels: How many training scans are used.

    Returns:
        What `out` held before.
    """
    job = _open(call, settings, labels)
    state = check_run(call.out, "adapt", job.config)
    if state == "finished":
        return state
    run = Run(call.out, "adapt", job.config)
    with run.logging():
        _run(run, job, call.seed)
    return state


def _open(call: Call, settings: TransferSettings | LinearDecoderSettings, labels: Budget) -> _Job:
    from scanlore.adaptation.segmentation_plan import check_model
    from scanlore.backbones.device import pick_device, resolve_precision
    from scanlore.inference.fingerprint import weights_fingerprint
    from scanlore.modelfolder.reference import load_model
    from scanlore.tasks.budget import label_budget
    from scanlore.tasks.labelled_case import read_images
    from scanlore.tasks.segmentation import load_segmentation_task, with_fold
    from scanlore.tasks.splits import complete_splits

    task = load_segmentation_task(call.task)
    if settings.fold is not None:
        task = with_fold(task, settings.fold)
    # Always drawn, so that splits are the same for every selection
    splits = complete_splits(task, SPLIT_SEED, needs_val=settings.selection == "best-val", draws_val=True)
    train = splits.indices("train")
    rows = label_budget([(task.cases[i].name, task.cases[i].patient) for i in train], labels, call.seed)
    chosen = [train[row] for row in rows]
    ndim = read_images(task.cases[chosen[0]], task.channels).ndim
    place = pick_device(call.device)
    model = load_model(call.model, device="cpu", ndim=ndim)
    resolved = check_model(model, task, settings, ndim)
    precision = resolve_precision(resolved.training.precision, place)
    resolved = resolved.model_copy(update={"training": resolved.training.model_copy(update={"precision": precision})})
    config = {
        "model": str(call.model),
        "weights": weights_fingerprint(model),
        "task": str(call.task),
        "task_fingerprint": task.fingerprint(),
        "labels": labels,
        "seed": call.seed,
        **resolved.model_dump(mode="json"),
    }
    return _Job(model, task, splits, chosen, resolved, config, str(place))


def _run(run: Run, job: _Job, seed: int) -> None:
    from scanlore.adaptation.segmentation_plan import plan_segmentation
    from scanlore.evaluation.segmentation_trial import run_segmentation_trial
    from scanlore.evaluation.tables import write_tables

    started = time.monotonic()
    run.note(device=job.device, training_cases=[job.task.cases[index].name for index in job.chosen])
    store = _store(run, job)
    plan = plan_segmentation(job.model, job.task, store, job.settings, seed)
    run.note(patch=list(plan.preprocessing.patch), spacing=plan.preprocessing.spacing)
    fit = _fit(run, job, plan, store, seed)
    _save(run.out, job, plan, fit)
    trial = trial_id(job.config)
    run.note(sealed={"trial": trial, "chosen": fit.chosen, "selection": job.settings.selection})
    with progress_bar("test scans", "scans") as progress:
        done = run_segmentation_trial(trial, _predictor(job, fit.segmenter), job.cases("test"), run.out, seed, progress)
    facts = _facts(job, plan, fit, done, store, time.monotonic() - started)
    write_tables(run.out, [facts | {"trial": trial}], done.predictions, done.results)
    problems = dict(store.problems) | done.problems
    run.note(warnings=_warnings(job, store, facts), problems=problems)
    shutil.rmtree(run.out / STORE, ignore_errors=True)


def _store(run: Run, job: _Job) -> LabelledStore:
    from scanlore.tasks.labelled_store import build_labelled_store

    store = run.out / STORE
    try:
        with progress_bar("labelled scans", "scans") as advance:
            return build_labelled_store(job.task, job.chosen, store, max_bad=job.settings.max_bad, progress=advance)
    except DataError:
        shutil.rmtree(store, ignore_errors=True)  # no other call could use it
        raise


def _fit(run: Run, job: _Job, plan: SegmentationPlan, store: LabelledStore, seed: int) -> SegmentationFit:
    from scanlore.adaptation.fit_segmentation import fit_segmentation
    from scanlore.evaluation.segmentation_trial import mean_dice

    steps = plan.settings.training.steps
    with progress_bar("training", "steps") as advance:

        def progress(values: dict[str, Any], timings: dict[str, Any]) -> None:
            speed, waiting = timings["scans_per_second"], timings["data_wait"]
            note = f"loss {values['loss']:.3f}  {speed:.1f} patches/s  waiting for data {waiting:.0%}"
            advance(values["step"], steps, note)

        return fit_segmentation(
            plan,
            store,
            run.out,
            seed=seed,
            device=job.device,
            ignore=job.task.ignore,
            validate=lambda segmenter: mean_dice(_predictor(job, segmenter), job.cases("val")),
            progress=progress,
        )


def _predictor(job: _Job, segmenter: Segmenter) -> Predictor:
    from scanlore.evaluation.segmentation_trial import Predictor

    settings = job.settings
    return Predictor(segmenter, job.task, settings.inference, job.device, settings.training.precision)


def _save(out: Path, job: _Job, plan: SegmentationPlan, fit: SegmentationFit) -> None:
    from scanlore.modelfolder.segmenter import save_segmenter

    provenance = {
        "protocol": job.settings.protocol,
        "model": Path(job.config["model"]).name,
        "weights": job.config["weights"],
        "task": job.task.name,
        "labels": str(job.config["labels"]),
        "num_labelled": len(job.chosen),
        "seed": job.config["seed"],
        "fold": job.settings.fold,
        "trial": trial_id(job.config),
        **fit.chosen,
    }
    save_segmenter(out / "model", fit.segmenter.network, plan.architecture, plan.preprocessing, provenance)


def _facts(
    job: _Job,
    plan: SegmentationPlan,
    fit: SegmentationFit,
    done: SegmentationTrial,
    store: LabelledStore,
    seconds: float,
) -> dict[str, Any]:
    from scanlore.modelfolder.seen import seen_status

    settings = job.settings
    schedule = f"{settings.warmups}, peak {settings.lr:g}" if isinstance(settings, TransferSettings) else "cosine"
    provenance = job.model.facts.get("provenance", {})
    return {
        "model": job.config["model"],
        "weights": job.config["weights"],
        "task": job.task.name,
        "task_fingerprint": job.config["task_fingerprint"],
        "task_kind": "segmentation",
        "protocol": settings.protocol,
        "labels": str(job.config["labels"]),
        "num_labelled": len(store),
        "fold": settings.fold,
        "schedule": f"{settings.training.steps} steps, {schedule}",
        "seed": job.config["seed"],
        "pretrain_seed": None if provenance.get("untrained") else provenance.get("seed"),
        "classes": list(job.task.classes),
        "num_train": len(store),
        "num_val": len(job.cases("val")),
        "num_test": len(job.cases("test")),
        "patients": job.splits.patients,
        "num_configs": 1,
        "selection": settings.selection,
        "chosen": json.dumps(fit.chosen),
        "num_parameters": sum(parameter.numel() for parameter in fit.segmenter.parameters()),
        "input_size": max(plan.preprocessing.patch),
        "wall_seconds": round(seconds, 3),
        "source": "run",
        "seen": seen_status(job.config["model"], done.ids),
    }


def _warnings(job: _Job, store: LabelledStore, facts: dict[str, Any]) -> Sequence[str]:
    warnings = []
    if facts["seen"] == "scan":
        warnings.append("test scans were seen in pretraining; `data.hold_out` of `scanlore pretrain` keeps them out")
    if facts["seen"] == "unknown":
        warnings.append("the model does not say what it was pretrained on: whether it saw test scans is unknown")
    if job.splits.patients == "unknown":
        warnings.append("patients are unknown: scans of one patient may lie on both sides of the split")
    if store.problems:
        warnings.append(f"{len(store.problems)} training scans could not be used")
    return warnings
