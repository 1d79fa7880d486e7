"""The verb `adapt`: use labels on top of a model, and score it on cases it never saw."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scanlore.adaptation.settings import ProtocolSettings, protocol_settings
from scanlore.errors import ConfigError
from scanlore.run import Run, check_run

if TYPE_CHECKING:
    from scanlore.tasks.classification import ClassificationTask
    from scanlore.tasks.splits import Splits


@dataclass(frozen=True)
class MetricRow:
    """One metric on the test set.

    Attributes:
        metric: Its name.
        class_name: The class it is of; `None` for all together.
        value: Its value; `None` where undefined.
        low: Lower end of the 95 % interval.
        high: Upper end.
        n: Scored cases.
        reason: Why there is no value.
    """

    metric: str
    class_name: str | None
    value: float | None
    low: float | None
    high: float | None
    n: int
    reason: str | None


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
    seed: int = 0,
    device: str = "auto",
) -> AdaptResult:
    """Fit a protocol to a classification task on top of a frozen model, and score it once on the test cases.

    Splits the task does not give are drawn by patient where patients are known. Choices see validation cases only.

    Args:
        model: A model reference: a model folder, `random:vit-small`, `pixels:32` ...
        task: A folder per class, or a table with the columns image, label and optionally patient and split.
        out: The run folder. The same call again returns its results; other settings are refused.
        protocol: `knn` or `linear-probe`.
        recipe: Name or path of a recipe of this protocol; `None` for the one called like it.
        overrides: Dotted overrides such as `steps=500`.
        seed: Of drawn splits, of the protocol and of the intervals.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.

    Raises:
        ConfigError: A setting is wrong, or `out` holds something else.
        DataError: The task cannot be used, or too many scans cannot be read.
        ModelError: The model cannot be used.
    """
    settings = protocol_settings(protocol, recipe, overrides)
    if seed < 0:
        raise ConfigError(f"must be 0 or more, got {seed}", where="seed")
    from scanlore.inference.fingerprint import weights_fingerprint
    from scanlore.inference.open_model import open_model
    from scanlore.tasks.classification import load_classification_task
    from scanlore.tasks.splits import complete_splits

    labelled = load_classification_task(Path(task))
    splits = complete_splits(labelled, seed, needs_val=settings.protocol != "knn")
    network, device = open_model(model, [case.scan for case in labelled.cases], device)
    weights = weights_fingerprint(network)
    config = {
        "model": str(model),
        "weights": weights,
        "task": str(task),
        "task_fingerprint": labelled.fingerprint(),
        "seed": seed,
        **settings.model_dump(mode="json"),
    }
    if check_run(Path(out), "adapt", config) == "finished":
        return _result(Path(out), already_finished=True)
    run = Run(Path(out), "adapt", config)
    with run.logging():
        _run(run, network, labelled, splits, settings, config, device)
    return _result(Path(out), already_finished=False)


def _run(
    run: Run,
    network: Any,
    task: ClassificationTask,
    splits: Splits,
    settings: ProtocolSettings,
    config: dict[str, Any],
    device: str,
) -> None:
    from scanlore.evaluation.tables import write_tables
    from scanlore.evaluation.trial import run_classification_trial
    from scanlore.progress import progress_bar

    # What the trial is, not where its files lie.
    identity = {key: value for key, value in config.items() if key != "task"}
    trial = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]
    run.note(device=device)
    with progress_bar("features", "scans") as progress:
        done = run_classification_trial(
            network,
            task,
            splits,
            settings,
            trial,
            seed=config["seed"],
            device=device,
            seal=lambda choices: run.note(sealed=choices),
            progress=progress,
        )
    trials = [row | {"model": config["model"], "weights": config["weights"]} for row in done.trials]
    write_tables(run.out, trials, done.predictions, done.results)
    run.note(warnings=done.warnings, problems=done.problems)


def _result(out: Path, already_finished: bool) -> AdaptResult:
    from scanlore.evaluation.tables import read_table

    trial = read_table(out, "trials").row(0, named=True)
    results = read_table(out, "results")
    record = json.loads((out / "run.json").read_text(encoding="utf-8"))
    rows = tuple(
        MetricRow(row["metric"], row["class_or_region"], row["value"], row["low"], row["high"], row["n"], row["reason"])
        for row in results.iter_rows(named=True)
        if row["case"] is None
    )
    return AdaptResult(
        out=out,
        trial=trial["trial"],
        rows=rows,
        chosen=json.loads(trial["chosen"]),
        num_train=trial["num_train"],
        num_val=trial["num_val"],
        num_test=trial["num_test"],
        patients=trial["patients"],
        warnings=tuple(record["warnings"]),
        problems=record["problems"],
        already_finished=already_finished,
    )
