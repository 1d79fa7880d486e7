"""Rows of the `results` table from the masks of one segmentation trial, one case in memory at a time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from scanlore.evaluation.bootstrap import percentile_interval, resample_means
from scanlore.evaluation.metrics import result_row
from scanlore.evaluation.segmentation_metrics import Labels, mask_metrics, score_case, scored_classes

Row = dict[str, Any]
Key = tuple[str, str]


@dataclass(frozen=True)
class MaskPair:
    """A case with its answer.

    Attributes:
        case: Its name.
        patient: A pseudonym; `None` where unknown.
        reference: `(*spatial)` label values.
        prediction: `(*spatial)` label values on the same grid.
        spacing: Voxel size in mm along each axis; `None` for 2D images of unknown size, measured in pixels.
    """

    case: str
    patient: str | None
    reference: Labels
    prediction: Labels
    spacing: Sequence[float] | None


@dataclass(frozen=True)
class MissingPair:
    """A case that cannot be scored.

    Attributes:
        case: Its name.
        patient: A pseudonym; `None` where unknown.
        reason: Why it cannot, in a few words.
    """

    case: str
    patient: str | None
    reason: str


def score_segmentation(
    trial: str,
    cases: Iterable[MaskPair | MissingPair],
    labels: Mapping[int, str],
    *,
    ignore: int | None = None,
    tolerance: float = 1.0,
    seed: int = 0,
) -> list[Row]:
    """Score one trial on its test set.

    Args:
        trial: Identity of the trial.
        cases: The test cases. A generator is best: each case is let go before the next is asked for.
        labels: Class names by label value, the background 0 among them.
        ignore: Label value of reference voxels that count for nothing.
        tolerance: Of the NSD in mm (pixels where a spacing is unknown), part of its name.
        seed: Of the resampling.

    Returns:
        Rows of the `results` table. First those of the whole set (`case` null) with their 95 % bootstrap intervals by
        patient: for every metric the mean over cases of the mean over classes (class null), and the mean over cases of
        every class; `n` counts the cases that have a value. Then every metric of every case and class, and a row
        without value for each case that could not be scored.
    """
    score = partial(_case_rows, trial, labels=labels, ignore=ignore, tolerance=tolerance)
    # Not a loop over cases, whose variable would keep one case alive while the next is read
    rows = [row for answer in map(score, cases) for row in answer]
    return set_rows(trial, rows, list(scored_classes(labels, ignore).values()), tolerance, seed) + rows


def set_rows(
    trial: str, case_rows: Sequence[Row], classes: Sequence[str], tolerance: float = 1.0, seed: int = 0
) -> list[Row]:
    """Return the rows of the whole set from those of its cases.

    Args:
        trial: Identity of the trial.
        case_rows: What `score_segmentation` says of each case.
        classes: Names of the scored classes.
        tolerance: Of the NSD, for the names of metrics when no case could be scored.
        seed: Of the resampling.
    """
    by_metric: dict[Key, list[Row]] = defaultdict(list)
    for row in case_rows:
        if row["class_or_region"] is not None:
            by_metric[row["metric"], row["unit"]].append(row)
    if not by_metric:
        return [
            result_row(trial, name, metric, 0) | {"reason": "no case could be scored"}
            for name, metric in mask_metrics(tolerance).items()
        ]
    return [row for group in by_metric.values() for row in _metric_rows(trial, group, classes, seed)]


def class_means(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the mean over the classes that have a value, of each case of `(N, K)`; NaN where none has."""
    is_value = np.isfinite(values)
    means = np.full(len(values), np.nan)
    counts = is_value.sum(1)
    np.divide(np.where(is_value, values, 0.0).sum(1), counts, out=means, where=counts > 0)
    return means


def _case_rows(
    trial: str, pair: MaskPair | MissingPair, *, labels: Mapping[int, str], ignore: int | None, tolerance: float
) -> list[Row]:
    identity = {"trial": trial, "case": pair.case, "patient": pair.patient}
    if isinstance(pair, MissingPair):
        metric = mask_metrics(tolerance)["dice"]
        return [result_row(trial, "dice", metric, 0) | identity | {"class_or_region": None, "reason": pair.reason}]
    rows = score_case(pair.reference, pair.prediction, labels, pair.spacing, tolerance, ignore)
    return [identity | row | {"n": int(row["value"] is not None)} for row in rows]


def _metric_rows(trial: str, rows: Sequence[Row], classes: Sequence[str], seed: int) -> list[Row]:
    """Return the rows of the set for one metric: all classes together, then each."""
    patients = {row["case"]: row["patient"] for row in rows}
    case_of = {case: index for index, case in enumerate(patients)}
    class_of = {name: index for index, name in enumerate(classes)}
    values = np.full((len(patients), len(classes)), np.nan)
    reasons: dict[str | None, set[str]] = defaultdict(set)
    for row in rows:
        if row["value"] is None:
            reasons[row["class_or_region"]].add(row["reason"])
        else:
            values[case_of[row["case"]], class_of[row["class_or_region"]]] = row["value"]
    reasons[None] = set().union(*reasons.values())
    columns = np.column_stack([class_means(values), values])
    draws = resample_means(columns, list(patients.values()), seed=seed)
    identity = {"trial": trial, **{key: rows[0][key] for key in ("metric", "unit", "version")}}
    return [
        identity | {"class_or_region": name} | _summary(columns[:, index], draws[:, index], reasons[name])
        for index, name in enumerate([None, *classes])
    ]


def _summary(values: npt.NDArray[np.float64], draws: npt.NDArray[np.float64], reasons: set[str]) -> Row:
    known = values[np.isfinite(values)]
    if not len(known):
        reason = f"in every case: {', '.join(sorted(reasons))}"
        return {"value": None, "low": None, "high": None, "n": 0, "reason": reason}
    interval = percentile_interval(draws.tolist())
    bounds = (interval.low, interval.high) if len(known) > 1 else (None, None)
    facts = {"low": bounds[0], "high": bounds[1], "reason": None}
    return {"value": float(known.mean()), "n": len(known), **facts}
