"""Rows of the `results` table from the predictions of one classification trial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from scanlore.evaluation.bootstrap import bootstrap_interval
from scanlore.evaluation.metrics import (
    METRICS,
    Metric,
    MetricFunction,
    Probabilities,
    Targets,
    class_auroc,
    missing_reason,
    result_row,
)


def score_classification(
    trial: str,
    classes: Sequence[str],
    targets: Targets,
    probabilities: Probabilities,
    patients: Sequence[str | None],
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Score one trial on its test set: every metric, and with three classes or more the AUROC of each.

    Args:
        trial: Identity of the trial.
        classes: Names of the K classes.
        targets: `(N,)` true classes.
        probabilities: `(N, K)`.
        patients: Patient of each case; intervals resample patients where known, else cases.
        seed: Of the resampling.

    Returns:
        Rows of the `results` table; `value` is `None` with a `reason` where a metric is undefined.
    """
    metrics: dict[tuple[str, str | None], Metric[MetricFunction]] = {
        (name, None): metric for name, metric in METRICS.items()
    }
    if len(classes) > 2:
        for label, name in enumerate(classes):
            metrics["auroc", name] = Metric(partial(class_auroc, label=label))
    rows = []
    for (name, region), metric in metrics.items():
        value = metric.function(targets, probabilities)
        if np.isfinite(value):
            interval = bootstrap_interval(metric.function, targets, probabilities, patients, seed=seed)
            facts: dict[str, Any] = {"value": value, "low": interval.low, "high": interval.high, "reason": None}
        else:
            reason = missing_reason(targets, classes) or "undefined for these cases"
            facts = {"value": None, "low": None, "high": None, "reason": reason}
        rows.append(result_row(trial, name, metric, len(targets)) | {"class_or_region": region} | facts)
    return rows


def unread_cases(trial: str, problems: Mapping[str, str], patients: Mapping[str, str | None]) -> list[dict[str, Any]]:
    """Return a row without value for each test case that could not be read, so that none is dropped in silence."""
    metric = METRICS["accuracy"]
    return [
        result_row(trial, "accuracy", metric, 0)
        | {"case": case, "patient": patients[case], "reason": f"not read: {reason}"}
        for case, reason in problems.items()
    ]
