"""`scanlore adapt` on a classification task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scanlore.adaptation.settings import ClassificationSettings
from scanlore.run import Run, State, check_run
from scanlore.verbs.adapt import Call, trial_id

if TYPE_CHECKING:
    from scanlore.tasks.classification import ClassificationTask
    from scanlore.tasks.splits import Splits


def adapt_classification(call: Call, settings: ClassificationSettings) -> State:
    """Fit a protocol to frozen features of a classification task, and write the run.

    Args:
        call: What was asked for.
        settings: Of the protocol.

    Returns:
        What `out` held before.
    """
    from scanlore.inference.fingerprint import weights_fingerprint
    from scanlore.inference.open_model import open_model
    from scanlore.tasks.classification import load_classification_task
    from scanlore.tasks.splits import complete_splits

    labelled = load_classification_task(call.task)
    splits = complete_splits(labelled, call.seed, needs_val=settings.protocol != "knn")
    network, device = open_model(call.model, [case.scan for case in labelled.cases], call.device)
    config = {
        "model": str(call.model),
        "weights": weights_fingerprint(network),
        "task": str(call.task),
        "task_fingerprint": labelled.fingerprint(),
        "seed": call.seed,
        **settings.model_dump(mode="json"),
    }
    state = check_run(call.out, "adapt", config)
    if state == "finished":
        return state
    run = Run(call.out, "adapt", config)
    with run.logging():
        _run(run, network, labelled, splits, settings, config, device)
    return state


def _run(
    run: Run,
    network: Any,
    task: ClassificationTask,
    splits: Splits,
    settings: ClassificationSettings,
    config: dict[str, Any],
    device: str,
) -> None:
    from scanlore.evaluation.tables import write_tables
    from scanlore.evaluation.trial import run_classification_trial
    from scanlore.progress import progress_bar

    run.note(device=device)
    with progress_bar("features", "scans") as progress:
        done = run_classification_trial(
            network,
            task,
            splits,
            settings,
            trial_id(config),
            seed=config["seed"],
            device=device,
            seal=lambda choices: run.note(sealed=choices),
            progress=progress,
        )
    kept = {"model": config["model"], "weights": config["weights"], "task_kind": "classification"}
    write_tables(run.out, [row | kept for row in done.trials], done.predictions, done.results)
    run.note(warnings=done.warnings, problems=done.problems)
