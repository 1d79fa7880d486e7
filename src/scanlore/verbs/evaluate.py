"""The verb `evaluate`: score predicted masks against those of a labelled task."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scanlore.errors import ConfigError, DataError, nearest
from scanlore.run import Run, check_run
from scanlore.scans.failures import counted
from scanlore.tasks.label_map import listed

if TYPE_CHECKING:
    from scanlore.evaluation.score_segmentation import MaskPair, MissingPair
    from scanlore.tasks.segmentation import SegmentationCase, SegmentationTask
    from scanlore.verbs.metric_rows import MetricRow

CASES = ["auto", "test", "all"]
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class EvaluateResult:
    """What `evaluate` did.

    Attributes:
        out: The folder with the tables `trials`, `predictions` and `results`.
        trial: Identity of the trial.
        rows: The metrics on all scored cases.
        cases: `test` or `all`: which labelled cases of the task were asked for.
        num_scored: Cases with a score.
        num_left_out: Labelled cases that are not test cases, and were not asked for.
        patients: `known` when intervals resample patients, `unknown` when they resample cases.
        problems: Reason of each case that could not be scored.
        already_done: Whether `out` held this very evaluation, so that nothing was computed.
    """

    out: Path
    trial: str
    rows: tuple[MetricRow, ...]
    cases: str
    num_scored: int
    num_left_out: int
    patients: str
    problems: dict[str, str]
    already_done: bool


@dataclass(frozen=True)
class _Plan:
    """Everything that was found out before the first mask is read."""

    task: SegmentationTask
    split_of: dict[str, str]
    wanted: list[SegmentationCase]
    masks: dict[str, Path]
    class_of_value: dict[int, int]
    fit: dict[str, Any]
    config: dict[str, Any]


def evaluate(
    predictions: str | Path,
    task: str | Path,
    out: str | Path | None = None,
    cases: str = "auto",
    fold: int | None = None,
    tolerance: float = 1.0,
    seed: int = 0,
) -> EvaluateResult:
    """Score masks in the geometry of their scans: Dice, Jaccard, HD95 and NSD of every case and class.

    Args:
        predictions: The folder that `scanlore predict` wrote, or any folder of masks called like the task's cases.
        task: A segmentation task: a folder with a `dataset.json` (Medical Segmentation Decathlon or nnU-Net), or a
            table with the columns image and mask.
        out: Where to write the tables; `None` for the folder `evaluation` in `predictions`. The same call again
            computes only what changed.
        cases: `test` scores the test cases of the task, the same that `scanlore adapt` tests on, `all` every labelled
            case. `auto` is `test` for what `scanlore predict` wrote, as the model has seen the others, and for a task
            that says which cases test; else `all`.
        fold: Of the task's `splits_final.json`: its `val` cases are the test cases. `None` for the fold the model was
            adapted on, if any.
        tolerance: Of the NSD, in mm, or in pixels for images of unknown size.
        seed: Of the intervals.

    Raises:
        ConfigError: An argument is wrong, or `out` holds something else.
        DataError: The task or the folder cannot be used, no mask is called like a case, or not one can be scored.
    """
    _check(cases, tolerance, seed)
    plan = _plan(Path(predictions), Path(task), cases, fold, {"tolerance": tolerance, "seed": seed})
    folder = Path(predictions) / "evaluation" if out is None else Path(out)
    stamp = _stamp(plan)
    is_same = check_run(folder, "evaluate", plan.config) == "finished" and _noted(folder).get("masks") == stamp
    if not is_same:
        _compute(plan, folder, stamp)
    return _result(folder, plan, is_same)


def _check(cases: str, tolerance: float, seed: int) -> None:
    if cases not in CASES:
        raise ConfigError(f"must be one of {', '.join(CASES)}, got {cases!r}{nearest(cases, CASES)}", where="cases")
    if not (math.isfinite(tolerance) and tolerance >= 0):
        raise ConfigError(f"must be a distance of 0 mm or more, got {tolerance}", where="tolerance")
    if seed < 0:
        raise ConfigError(f"must be 0 or more, got {seed}", where="seed")


def _plan(predictions: Path, path: Path, cases: str, fold: int | None, settings: dict[str, Any]) -> _Plan:
    from scanlore.evaluation.predicted_masks import find_masks, value_classes
    from scanlore.tasks.segmentation import load_segmentation_task, with_fold

    model, fit = _model_of(predictions)
    fold = fit.get("fold") if fold is None else fold
    task = load_segmentation_task(path)
    task = task if fold is None else with_fold(task, fold)
    gives_test = any(case.split == "test" for case in task.cases)
    resolved = cases if cases != "auto" else "test" if model is not None or gives_test else "all"
    split_of = _splits(task) if resolved == "test" else {case.name: case.split or "" for case in task.cases}
    labelled = [case for case in task.cases if case.mask is not None]
    wanted = [case for case in labelled if resolved == "all" or split_of[case.name] == "test"]
    masks = _of_wanted(find_masks(predictions, labelled), wanted, predictions)
    facts = {"model": model, "task_fingerprint": task.fingerprint(), "cases": resolved, "fold": fold}
    return _Plan(task, split_of, wanted, masks, value_classes(predictions, task), fit, facts | settings)


def _of_wanted(masks: dict[str, Path], wanted: list[SegmentationCase], predictions: Path) -> dict[str, Path]:
    chosen = {case.name: masks[case.name] for case in wanted if case.name in masks}
    if not chosen:
        test = listed(case.name for case in wanted)
        what = f"holds masks of {counted(len(masks), 'case')}, and of no test case ({test})"
        raise DataError(what, where=predictions, fix="`--cases all` scores the others as well")
    return chosen


def _splits(task: SegmentationTask) -> dict[str, str]:
    """Return the split of each case; test cases are those that `adapt` draws, whatever its seed."""
    from scanlore.tasks.splits import complete_splits

    splits = complete_splits(task, seed=0, needs_val=False).of_case
    return {case.name: split or "" for case, split in zip(task.cases, splits, strict=True)}


def _model_of(predictions: Path) -> tuple[str | None, dict[str, Any]]:
    """Return the model that made the masks and what is known of its fit, where `scanlore predict` says so.

    The row of the run that fitted it, or where that lies elsewhere by now what the weights say themselves.
    """
    from scanlore.config import read_yaml
    from scanlore.evaluation.tables import TRIALS, read_table

    noted = _noted(predictions)
    if noted.get("command") != "predict" or not (predictions / "config.yaml").is_file():
        return _adapted_beside(predictions)
    model = str(read_yaml(predictions / "config.yaml").get("model"))
    run = Path(model).parent if Path(model).name == "model" else Path(model)
    if (run / "trials.parquet").is_file():
        return model, read_table(run, "trials").row(0, named=True)
    return model, {key: value for key, value in noted.get("provenance", {}).items() if key in TRIALS}


def _adapted_beside(predictions: Path) -> tuple[str | None, dict[str, Any]]:
    """Return the run whose own masks these are, where they lie in a run of `scanlore adapt`."""
    from scanlore.evaluation.tables import read_table

    run = predictions.absolute().parent
    if _noted(run).get("command") != "adapt" or not (run / "trials.parquet").is_file():
        return None, {}
    return str(run), read_table(run, "trials").row(0, named=True)


def _noted(folder: Path) -> dict[str, Any]:
    path = folder / "run.json"
    if not path.is_file():
        return {}
    try:
        noted: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise DataError("is damaged", where=path) from None
    return noted


def _stamp(plan: _Plan) -> str:
    """Return a hash of which masks there are and when they were written."""
    stats = {name: path.stat() for name, path in sorted(plan.masks.items())}
    facts = [(name, plan.masks[name].name, stat.st_size, stat.st_mtime_ns) for name, stat in stats.items()]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def _compute(plan: _Plan, out: Path, stamp: str) -> None:
    """Score, and only then make the folder: a refused call leaves none."""
    from scanlore.evaluation.tables import write_tables

    trial = plan.fit.get("trial") or hashlib.sha256(f"{plan.config} {stamp}".encode()).hexdigest()[:12]
    results = _score(plan, trial)
    reasons = {row["case"]: row["reason"] for row in results if row.get("case") and row["class_or_region"] is None}
    if len(reasons) == len(plan.wanted):
        name = next((name for name in reasons if name in plan.masks), plan.wanted[0].name)
        raise DataError(f"not one case can be scored; {name}: {reasons[name]}", where=plan.masks.get(name))
    run = Run(out, "evaluate", plan.config)
    with run.logging():
        write_tables(out, [_trial(plan, trial, len(reasons))], _predictions(plan, trial, out), results)
        run.note(masks=stamp, problems=reasons)


def _score(plan: _Plan, trial: str) -> Rows:
    from scanlore.evaluation.predicted_masks import mask_pairs
    from scanlore.evaluation.score_segmentation import score_segmentation
    from scanlore.progress import progress_bar

    total = len(plan.wanted)
    pairs = mask_pairs(plan.wanted, plan.task, plan.masks, plan.class_of_value)
    with progress_bar("evaluation", "cases") as progress:

        def shown() -> Iterator[MaskPair | MissingPair]:
            for number in range(total):
                progress(number, total)
                yield next(pairs)

        options = {key: plan.config[key] for key in ("tolerance", "seed")}
        return score_segmentation(trial, shown(), plan.task.labels, ignore=plan.task.ignore, **options)


def _trial(plan: _Plan, trial: str, num_unscored: int) -> dict[str, Any]:
    facts = {
        "trial": trial,
        "task": plan.task.name,
        "task_kind": "segmentation",
        "task_fingerprint": plan.config["task_fingerprint"],
        "classes": list(plan.task.classes),
        "num_test": len(plan.wanted) - num_unscored,
        "patients": "known" if all(case.patient for case in plan.wanted) else "unknown",
        "fold": plan.config["fold"],
    }
    unknown = {"source": "imported" if plan.config["model"] is None else "run", "seen": "unknown"}
    return unknown | {"model": plan.config["model"]} | plan.fit | facts


def _predictions(plan: _Plan, trial: str, out: Path) -> Rows:
    return [
        {
            "trial": trial,
            "case": case.name,
            "patient": case.patient,
            "split": plan.split_of[case.name] or None,
            "classes": list(plan.task.classes),
            "mask": os.path.relpath(plan.masks[case.name], out) if case.name in plan.masks else None,
        }
        for case in plan.wanted
    ]


def _result(out: Path, plan: _Plan, already_done: bool) -> EvaluateResult:
    from scanlore.evaluation.tables import read_tables
    from scanlore.verbs.metric_rows import metric_rows

    tables = read_tables(out)
    trial = tables.trials.row(0, named=True)
    return EvaluateResult(
        out=out,
        trial=trial["trial"],
        rows=metric_rows(tables.results),
        cases=plan.config["cases"],
        num_scored=trial["num_test"],
        num_left_out=sum(case.mask is not None for case in plan.task.cases) - len(plan.wanted),
        patients=trial["patients"],
        problems=_noted(out)["problems"],
        already_done=already_done,
    )
