"""One trial of a classification task: features, a protocol fitted, sealed, and shown the test set once."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from scanlore.adaptation.fitted import Fitted
from scanlore.adaptation.knn import fit_knn
from scanlore.adaptation.linear_probe import fit_linear_probe
from scanlore.adaptation.settings import ClassificationSettings, KnnSettings, LinearProbeSettings
from scanlore.evaluation.metrics import macro_auroc
from scanlore.evaluation.score import score_classification, unread_cases
from scanlore.inference.extract import FeatureTable, extract
from scanlore.inference.forward import source_name
from scanlore.modelfolder.model import Model
from scanlore.tasks.classification import ClassificationTask, require_training_cases
from scanlore.tasks.splits import Splits

logger = logging.getLogger("scanlore")
SELECTION = "best macro_auroc on validation"
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Trial:
    """What one trial leaves.

    Attributes:
        trials: Its row of the `trials` table.
        predictions: Rows of all cases but the training cases.
        results: Rows of its metrics on the test set, and of test cases that could not be read.
        warnings: Doubts about the fit.
        problems: Name and reason of each case that could not be read.
    """

    trials: Rows
    predictions: Rows
    results: Rows
    warnings: tuple[str, ...]
    problems: dict[str, str]


@dataclass(frozen=True)
class _Cases:
    """Features of the cases that could be read: `row_of` maps the index of a case to its row."""

    task: ClassificationTask
    splits: Splits
    table: FeatureTable
    row_of: dict[int, int]

    def of(self, split: str) -> tuple[FeatureTable, npt.NDArray[np.int64]]:
        """Return features and labels of one split."""
        indices = [index for index in self.splits.indices(split) if index in self.row_of]
        labels = np.array([self.task.cases[index].label for index in indices], dtype=np.int64)
        return self.table.take([self.row_of[index] for index in indices]), labels


def run_classification_trial(
    model: Model,
    task: ClassificationTask,
    splits: Splits,
    settings: ClassificationSettings,
    trial: str,
    *,
    seed: int,
    device: str,
    seal: Callable[[dict[str, Any]], None],
    progress: Callable[[int, int], None] | None = None,
) -> Trial:
    """Run one trial.

    Args:
        model: The model, on `device`.
        task: The task.
        splits: Its completed splits.
        settings: The protocol.
        trial: Identity of the trial.
        seed: Of the protocol and of the resampling.
        device: Where the model runs.
        seal: Called with all choices made, before any test case is predicted.
        progress: Called with the number of scans read and their total.

    Raises:
        DataError: Too many scans cannot be read, or a class has no readable training case.
    """
    started = time.monotonic()
    cases = _extract(model, task, splits, settings, device, progress)
    fitted = _fit(cases, settings, seed, device)
    for warning in fitted.warnings:
        logger.info("warning: %s", warning)
    seal({"trial": trial, "chosen": fitted.chosen, "selection": fitted.selection})
    predictions = _predict(cases, fitted, trial)
    problems = _problems(cases)
    results = _score(cases, predictions, problems, trial, seed)
    facts = {
        "trial": trial,
        "task": task.name,
        "task_fingerprint": task.fingerprint(),
        "protocol": settings.protocol,
        "seed": seed,
        "classes": list(task.classes),
        **{f"num_{split}": len(cases.of(split)[1]) for split in ("train", "val", "test")},
        "patients": splits.patients,
        "num_configs": fitted.num_configs,
        "selection": fitted.selection,
        "chosen": json.dumps(fitted.chosen),
        "num_parameters": model.num_parameters,
        "input_size": model.preprocessing.input_size,
        "wall_seconds": round(time.monotonic() - started, 3),
        "source": "run",
        "seen": "unknown",
    }
    return Trial([facts], predictions, results, fitted.warnings, problems)


def _extract(
    model: Model,
    task: ClassificationTask,
    splits: Splits,
    settings: ClassificationSettings,
    device: str,
    progress: Callable[[int, int], None] | None,
) -> _Cases:
    num_layers = max(settings.last_layers) if isinstance(settings, LinearProbeSettings) else 1
    sources = [case.scan for case in task.cases]
    options = settings.features.model_dump()
    table = extract(model, sources, num_layers=num_layers, device=device, progress=progress, **options)
    rows = {name: row for row, name in enumerate(table.names)}
    names = [source_name(source) for source in sources]
    return _Cases(task, splits, table, {index: rows[name] for index, name in enumerate(names) if name in rows})


def _fit(cases: _Cases, settings: ClassificationSettings, seed: int, device: str) -> Fitted:
    train, labels = cases.of("train")
    readable = [index for index in cases.splits.indices("train") if index in cases.row_of]
    require_training_cases(cases.task, readable, cases.task.name)
    if isinstance(settings, KnnSettings):
        return fit_knn(settings, train, labels)
    return fit_linear_probe(
        settings, train, labels, *cases.of("val"), score=macro_auroc, selection=SELECTION, seed=seed, device=device
    )


def _predict(cases: _Cases, fitted: Fitted, trial: str) -> Rows:
    """Predict every case but the training cases; unreadable ones get no probabilities."""
    asked = [index for index, split in enumerate(cases.splits.of_case) if split != "train"]
    readable = [index for index in asked if index in cases.row_of]
    probabilities = fitted.predict(cases.table.take([cases.row_of[index] for index in readable])).tolist()
    probabilities_of = dict(zip(readable, probabilities, strict=True))
    names, splits = cases.task.names, cases.splits.of_case
    return [
        {"trial": trial, "case": names[index], "split": splits[index]}
        | _prediction(cases.task, index, probabilities_of.get(index))
        for index in asked
    ]


def _prediction(task: ClassificationTask, index: int, probabilities: list[float] | None) -> dict[str, Any]:
    case = task.cases[index]
    return {
        "patient": case.patient,
        "target": case.label,
        "target_class": None if case.label is None else task.classes[case.label],
        "predicted": None if probabilities is None else task.classes[int(np.argmax(probabilities))],
        "classes": list(task.classes),
        "probabilities": probabilities,
        "mask": None,
    }


def _problems(cases: _Cases) -> dict[str, str]:
    reasons = dict(cases.table.problems)
    names = cases.task.names
    unread = [index for index in range(len(names)) if index not in cases.row_of]
    return {names[index]: reasons[source_name(cases.task.cases[index].scan)] for index in unread}


def _score(
    cases: _Cases, predictions: Sequence[dict[str, Any]], problems: dict[str, str], trial: str, seed: int
) -> Rows:
    test = [row for row in predictions if row["split"] == "test" and row["target"] is not None]
    scored = [row for row in test if row["probabilities"] is not None]
    targets = np.array([row["target"] for row in scored], dtype=np.int64)
    probabilities = np.array([row["probabilities"] for row in scored]).reshape(len(scored), len(cases.task.classes))
    patients = [row["patient"] for row in scored]
    unread = {row["case"]: row["patient"] for row in test if row["probabilities"] is None}
    rows = score_classification(trial, cases.task.classes, targets, probabilities, patients, seed)
    return rows + unread_cases(trial, {case: problems[case] for case in unread}, unread)
