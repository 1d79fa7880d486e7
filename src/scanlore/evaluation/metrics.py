"""Metrics of classification: pure functions of targets and probabilities, one implementation for all tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

Targets = npt.NDArray[np.integer]
Probabilities = npt.NDArray[np.floating]
MetricFunction = Callable[[Targets, Probabilities], float]
Function = TypeVar("Function", bound=Callable[..., float])


@dataclass(frozen=True)
class Metric(Generic[Function]):
    """A metric as the results table names it.

    Attributes:
        function: NaN where it is not defined. Of classification: takes targets `(N,)` in `0 .. K-1` and probabilities
            `(N, K)`.
        unit: Its unit.
        version: Raised when the definition changes.
    """

    function: Function
    unit: str = "fraction"
    version: int = 1


def confusion_matrix(targets: Targets, probabilities: Probabilities) -> npt.NDArray[np.int64]:
    """Return the `(K, K)` counts: rows are true classes, columns the most probable ones (the first of equals)."""
    num_classes = probabilities.shape[1]
    pairs = targets * num_classes + probabilities.argmax(1)
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def accuracy(targets: Targets, probabilities: Probabilities) -> float:
    """Return the share of cases whose most probable class is the true one, in [0, 1]."""
    return float((probabilities.argmax(1) == targets).mean()) if len(targets) else np.nan


def balanced_accuracy(targets: Targets, probabilities: Probabilities) -> float:
    """Return the mean recall of the classes, in [0, 1]; NaN when a class has no case."""
    confusion = confusion_matrix(targets, probabilities)
    if not confusion.sum(1).all():
        return np.nan
    return float((confusion.diagonal() / confusion.sum(1)).mean())


def macro_f1(targets: Targets, probabilities: Probabilities) -> float:
    """Return the mean F1 of the classes, in [0, 1]; 0 for a class never predicted, NaN when a class has no case."""
    confusion = confusion_matrix(targets, probabilities)
    if not confusion.sum(1).all():
        return np.nan
    return float((2 * confusion.diagonal() / (confusion.sum(0) + confusion.sum(1))).mean())


def class_auroc(targets: Targets, probabilities: Probabilities, label: int) -> float:
    """Return the area under the ROC curve of one class against the rest, in [0, 1]; NaN when either has no case.

    It is the Mann-Whitney statistic: the chance that a case of the class scores above one of the rest, ties one half.
    """
    positive = targets == label
    num_positive, num_negative = int(positive.sum()), int((~positive).sum())
    if not num_positive or not num_negative or not np.isfinite(probabilities).all():
        return np.nan
    ranks = rankdata(probabilities[:, label])
    return float((ranks[positive].sum() - num_positive * (num_positive + 1) / 2) / (num_positive * num_negative))


def macro_auroc(targets: Targets, probabilities: Probabilities) -> float:
    """Return the mean one-vs-rest AUROC of the classes, the plain AUROC for two; NaN when a class has no case."""
    if probabilities.shape[1] == 2:
        return class_auroc(targets, probabilities, 1)
    return float(np.mean([class_auroc(targets, probabilities, label) for label in range(probabilities.shape[1])]))


METRICS: dict[str, Metric[MetricFunction]] = {
    "macro_auroc": Metric(macro_auroc),
    "accuracy": Metric(accuracy),
    "balanced_accuracy": Metric(balanced_accuracy),
    "macro_f1": Metric(macro_f1),
}


def missing_reason(targets: Targets, classes: Sequence[str]) -> str | None:
    """Return why metrics over all classes are undefined for these targets; `None` when they are not."""
    absent = [repr(name) for label, name in enumerate(classes) if label not in targets]
    return f"no case of class {', '.join(absent)}" if absent else None


def result_row(trial: str, name: str, metric: Metric[Any], num_cases: int) -> dict[str, Any]:
    """Return what every row of the `results` table says of its metric."""
    return {"trial": trial, "metric": name, "unit": metric.unit, "version": metric.version, "n": num_cases}
