"""The verb `adapt`: use labels on top of a model, and score it on cases it never saw."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scanlore.adaptation.settings import SETTINGS, ClassificationSettings, is_for_segmentation, protocol_settings
from scanlore.errors import ConfigError
from scanlore.tasks.budget import Budget, parse_labels
from scanlore.verbs.metric_rows import MetricRow, metric_rows


@dataclass(frozen=True)
class AdaptResult:
    """What `adapt` did.

    Attributes:
        out: The run folder, with the tables `trials`, `predictions` and `results`.
        trial: Identity of the trial.
        rows: The metrics on the test set.
        chosen: The configuration validation chose.
        num_train: Training cases.
        num_val: Validation cases.
        num_test: Test cases.
        patients: `known` when splits are by patient, else `unknown`.
        seen: Whether pretraining saw a test scan: `none`, `scan` or `unknown`.
        warnings: Doubts about the fit.
        problems: Reason of each case that could not be read.
        already_finished: Whether `out` held this very run, so that nothing was computed.
    """

    out: Path
    trial: str
    rows: tuple[MetricRow, ...]
    chosen: dict[str, Any]
    num_train: int
    num_val: int
    num_test: int
    patients: str
    seen: str
    warnings: tuple[str, ...]
    problems: dict[str, str]
    already_finished: bool


def adapt(
    model: str | Path,
    task: str | Path,
    out: str | Path,
    protocol: str,
    recipe: str | None = None,
    overrides: Sequence[str] = (),
    labels: str | Budget = "all",
    seed: int = 0,
    device: str = "auto",
) -> AdaptResult:
    """Adapt a model to a labelled task, and score it once on the test cases.

    Splits the task does not give are drawn by patient where patients are known. Choices see validation cases only. The
    test cases of a segmentation task are the same for every seed.

    Args:
        model: A model reference: a model folder, `random:vit-small`, `pixels:32` ...
        task: Classification: a folder per class, or a table with the columns image, label and optionally patient and
            split. Segmentation: a folder of the Medical Segmentation Decathlon or of nnU-Net, or a table with the
            columns image, mask and optionally patient and split.
        out: The run folder. The same call again goes on with an interrupted run, or returns the results of a finished
            one; other settings are refused.
        protocol: `knn` or `linear-probe` for classes; `transfer` or `linear-decoder` for voxels.
        recipe: Name or path of a recipe of this protocol; `None` for the one called like it.
        overrides: Dotted overrides such as `training.steps=500`.
        labels: Which training scans are used, of a segmentation task: `all`, a number of scans, or a share such as
            `0.1` or `10%`. Smaller budgets lie within larger ones; the seed draws them, and not the model.
        seed: Of drawn splits, of the label budget, of the protocol and of the intervals.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.

    Raises:
        ConfigError: A setting is wrong, or `out` holds something else.
        DataError: The task cannot be used, or too many scans cannot be read.
        ModelError: The model cannot be used.
    """
    settings = protocol_settings(protocol, recipe, overrides)
    if seed < 0:
        raise ConfigError(f"must be 0 or more, got {seed}", where="seed")
    budget = parse_labels(labels) if isinstance(labels, str) else labels
    _check_kind(Path(task), protocol)
    call = Call(model, Path(task), Path(out), seed, device)
    if isinstance(settings, ClassificationSettings):
        if budget != "all":
            fix = "leave it out; transfer and linear-decoder have label budgets"
            raise ConfigError(f"the protocol {protocol} takes all training cases", where="labels", fix=fix)
        from scanlore.verbs.adapt_classification import adapt_classification

        return read_result(call.out, already_finished=adapt_classification(call, settings) == "finished")
    from scanlore.verbs.adapt_segmentation import adapt_segmentation

    return read_result(call.out, already_finished=adapt_segmentation(call, settings, budget) == "finished")


@dataclass(frozen=True)
class Call:
    """What was asked for, besides the protocol.

    Attributes:
        model: A model reference.
        task: Path of the task.
        out: The run folder.
        seed: Of the trial.
        device: As asked for.
    """

    model: str | Path
    task: Path
    out: Path
    seed: int
    device: str


def _check_kind(task: Path, protocol: str) -> None:
    """Refuse a protocol for the other kind of task, with the names of those that fit.

    Raises:
        ConfigError: It is for the other kind.
    """
    from scanlore.tasks.segmentation import is_segmentation_task

    voxels = is_segmentation_task(task)
    if voxels != is_for_segmentation(protocol):
        kind = "masks" if voxels else "one label per scan"
        fitting = [name for name in SETTINGS if is_for_segmentation(name) == voxels]
        fix = f"protocols for it: {', '.join(fitting)}"
        raise ConfigError(f"{protocol!r} does not fit a task with {kind}", where=f"{task}", fix=fix)


def trial_id(config: Mapping[str, Any]) -> str:
    """Return the identity of a trial: what it is, not where its files lie."""
    identity = {key: value for key, value in config.items() if key != "task"}
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]


def read_result(out: Path, already_finished: bool) -> AdaptResult:
    """Read the result of a finished run.

    Args:
        out: The run folder.
        already_finished: Whether nothing was computed.
    """
    from scanlore.evaluation.tables import read_tables

    tables = read_tables(out)
    trial = tables.trials.row(0, named=True)
    record = json.loads((out / "run.json").read_text(encoding="utf-8"))
    return AdaptResult(
        out=out,
        trial=trial["trial"],
        rows=metric_rows(tables.results),
        chosen=json.loads(trial["chosen"]),
        num_train=trial["num_train"],
        num_val=trial["num_val"],
        num_test=trial["num_test"],
        patients=trial["patients"],
        seen=trial["seen"],
        warnings=tuple(record["warnings"]),
        problems=record["problems"],
        already_finished=already_finished,
    )
