"""Compare two trials on the same cases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy.stats import wilcoxon

from scanlore.errors import DataError, nearest
from scanlore.evaluation.bootstrap import (
    LEVEL,
    NUM_RESAMPLES,
    num_units,
    percentile_interval,
    resample_means,
    resamples,
)
from scanlore.evaluation.metrics import METRICS, MetricFunction, Probabilities, Targets

if TYPE_CHECKING:
    import polars as pl

DIGITS = 12
"""Differences are rounded to these decimals, so that two equal means in another order of summing stay equal."""


@dataclass(frozen=True)
class PairedDifference:
    """By how much the first of two trials is better on the same cases.

    Attributes:
        first: The metric of the first trial on these cases.
        second: That of the second.
        difference: First minus second, in the metric's unit.
        low: Lower end of the interval; NaN for a single patient, of whom nothing can be resampled.
        high: Upper end.
        p: Two-sided bootstrap p-value of no difference; never below `2 / (num_resamples + 1)`, NaN as the interval.
        num_cases: Cases both trials have.
        num_resamples: Resamples it rests on.
        num_skipped: Resamples left out, because a class had no case in them.
        num_patients: Independent units: patients, and cases of unknown patient.
        wilcoxon_p: Two-sided p-value of the Wilcoxon signed-rank test over patients; `None` for a metric that single
            cases do not have.
        only_first: Cases that only the first trial has a value for.
        only_second: Cases that only the second has a value for.
    """

    first: float
    second: float
    difference: float
    low: float
    high: float
    p: float
    num_cases: int
    num_resamples: int
    num_skipped: int
    num_patients: int
    wilcoxon_p: float | None = None
    only_first: tuple[str, ...] = ()
    only_second: tuple[str, ...] = ()


def paired_difference(
    function: MetricFunction,
    targets: Targets,
    first: Probabilities,
    second: Probabilities,
    patients: Sequence[str | None] | None = None,
    *,
    num_resamples: int = NUM_RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> PairedDifference:
    """Return the difference of a metric between two trials; both see the same resampled patients.

    Args:
        function: The metric.
        targets: `(N,)` true classes.
        first: `(N, K)` probabilities of the first trial.
        second: `(N, K)` probabilities of the second trial, of the same cases.
        patients: Patient of each case; all cases of a patient are drawn together. `None` for a case of its own.
        num_resamples: Number of resamples.
        level: Coverage of the interval.
        seed: Of the resampling.
    """
    draws = resamples(len(targets), patients, num_resamples, seed)
    values = np.array([function(targets[rows], first[rows]) - function(targets[rows], second[rows]) for rows in draws])
    if num_units(len(targets), patients) == 1:
        values = np.full(len(values), np.nan)  # one patient resampled is always itself
    interval = percentile_interval(values.tolist(), level)
    scores = function(targets, first), function(targets, second)
    return PairedDifference(
        first=scores[0],
        second=scores[1],
        difference=scores[0] - scores[1],
        low=interval.low,
        high=interval.high,
        p=bootstrap_p(values),
        num_cases=len(targets),
        num_resamples=interval.num_resamples,
        num_skipped=interval.num_skipped,
        num_patients=num_units(len(targets), patients),
    )


def paired_mean_difference(
    first: npt.NDArray[np.float64],
    second: npt.NDArray[np.float64],
    patients: Sequence[str | None] | None = None,
    *,
    num_resamples: int = NUM_RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> PairedDifference:
    """Return the mean difference of a metric that every case has, with interval and both p-values.

    Args:
        first: `(N,)` values of the first trial.
        second: `(N,)` values of the second, of the same cases.
        patients: Patient of each case; all cases of a patient are drawn together. `None` for a case of its own.
        num_resamples: Number of resamples.
        level: Coverage of the interval.
        seed: Of the resampling.
    """
    differences = np.round(first - second, DIGITS)
    values = resample_means(differences[:, None], patients, num_resamples=num_resamples, seed=seed)[:, 0]
    if num_units(len(first), patients) == 1:
        values = np.full(len(values), np.nan)  # one patient resampled is always itself
    interval = percentile_interval(values.tolist(), level)
    by_patient = _patient_means(differences, patients)
    return PairedDifference(
        first=float(first.mean()),
        second=float(second.mean()),
        difference=float(differences.mean()),
        low=interval.low,
        high=interval.high,
        p=bootstrap_p(values),
        num_cases=len(differences),
        num_resamples=interval.num_resamples,
        num_skipped=interval.num_skipped,
        wilcoxon_p=signed_rank_p(by_patient),
        num_patients=len(by_patient),
    )


def bootstrap_p(values: npt.NDArray[np.float64]) -> float:
    """Return the two-sided p-value of no difference from resampled differences; NaN when there are none.

    It inverts the percentile interval: twice the smaller share of resamples on one side of zero, each share with one
    added above and below (Davison and Hinkley 1997, section 4.4).
    """
    valid = values[np.isfinite(values)]
    tail = min((valid <= 0).sum(), (valid >= 0).sum())
    return float(min(1.0, 2 * (tail + 1) / (len(valid) + 1))) if len(valid) else np.nan


def signed_rank_p(differences: npt.NDArray[np.float64]) -> float:
    """Return the two-sided p-value of the Wilcoxon signed-rank test (Wilcoxon 1945).

    Zero differences are ranked with the others and then left out (Pratt 1959), so that many ties speak for no
    difference instead of vanishing; nothing but zeros gives 1.
    """
    return float(wilcoxon(differences, zero_method="pratt").pvalue) if differences.any() else 1.0


def compare_trials(
    first: pl.DataFrame, second: pl.DataFrame, metric: str = "macro_auroc", seed: int = 0
) -> PairedDifference:
    """Compare two trials of classification from their `predictions` tables, on the labelled test cases.

    Args:
        first: Predictions of one trial.
        second: Predictions of the other, on the same task.
        metric: A name in `METRICS`.
        seed: Of the resampling.

    Raises:
        DataError: The trials were not scored on the same cases with the same targets, or the metric is unknown.
    """
    import polars as pl

    _require_metric(metric, list(METRICS))
    keys = ["case", "target"]
    scored = pl.col("target").is_not_null() & pl.col("probabilities").is_not_null() & (pl.col("split") == "test")
    one, two = (table.filter(scored).sort("case") for table in (first, second))
    if not one.height or not one.select(keys).equals(two.select(keys)):
        raise DataError("the two trials were not scored on the same test cases", fix="adapt both with the same seed")
    return paired_difference(
        METRICS[metric].function,
        one["target"].to_numpy(),
        np.array(one["probabilities"].to_list()),
        np.array(two["probabilities"].to_list()),
        one["patient"].to_list(),
        seed=seed,
    )


def compare_segmentations(
    first: pl.DataFrame, second: pl.DataFrame, metric: str = "dice", seed: int = 0
) -> PairedDifference:
    """Compare two trials of segmentation from their `results` tables, on the cases both have a value for.

    The value of a case is its mean over classes, as each trial reports it. For distances, which a class missed
    altogether does not have, both sides take the mean over the classes that both have.

    Args:
        first: Results of one trial.
        second: Results of the other, on the same task.
        metric: `dice`, `jaccard`, `hd95`, `nsd@1mm` ... as the tables name it.
        seed: Of the resampling.

    Raises:
        DataError: The metric is missing, of different versions, or no case has a value in both.
    """
    import polars as pl

    one, two = (_case_values(table, metric, which) for table, which in ((first, "first"), (second, "second")))
    _require_same_classes(one, two)
    if set(one["version"]) != set(two["version"]) or set(one["unit"]) != set(two["unit"]):
        raise DataError(f"{metric} has another definition in the two tables", fix="evaluate both again")
    pairs = one.join(two, on=["case", "class_or_region"], how="full", coalesce=True, maintain_order="left_right")
    if one["unit"][0] != "fraction":
        pairs = pairs.filter(pl.col("value").is_not_null() & pl.col("value_right").is_not_null())
    cases = pairs.group_by("case", maintain_order=True).agg(
        pl.col("patient").first(), pl.col("value", "value_right").mean()
    )
    both = cases.drop_nulls(["value", "value_right"])
    if not both.height:
        raise _nothing_in_common(one, two, metric)
    patients = both["patient"].to_list()
    result = paired_mean_difference(both["value"].to_numpy(), both["value_right"].to_numpy(), patients, seed=seed)
    scored = [set(table.drop_nulls("value")["case"]) for table in (one, two)]
    common = set(both["case"])
    return replace(result, only_first=tuple(sorted(scored[0] - common)), only_second=tuple(sorted(scored[1] - common)))


def _require_same_classes(one: pl.DataFrame, two: pl.DataFrame) -> None:
    """Refuse means over other classes, which are no answer to the same question."""
    first, second = (sorted(set(table["class_or_region"])) for table in (one, two))
    if first != second:
        what = f"the two trials score other classes: {', '.join(first)} and {', '.join(second)}"
        raise DataError(what, fix="evaluate both on one task, with the same label names")


def _nothing_in_common(one: pl.DataFrame, two: pl.DataFrame, metric: str) -> DataError:
    if set(one["case"]) & set(two["case"]):
        what = f"{metric} has no value in both trials for any class of a common case"
        return DataError(what, fix="compare by dice, which has one wherever a class is there or was found")
    examples = f"the first has {one['case'][0]!r}, the second {two['case'][0]!r}"
    what = f"the two trials have no scored case in common: {examples}"
    return DataError(what, fix="evaluate both on one task")


def _case_values(results: pl.DataFrame, metric: str, which: str) -> pl.DataFrame:
    """Return one metric of every case and class, `value` null where there is none."""
    import polars as pl

    rows = results.filter(pl.col("case").is_not_null() & pl.col("class_or_region").is_not_null())
    if not rows.height:
        raise DataError(f"the {which} of the two trials has no scored case", fix="see the reasons in its results")
    _require_metric(metric, rows["metric"].unique(maintain_order=True).to_list())
    return rows.filter(pl.col("metric") == metric).select(
        "case", "patient", "class_or_region", "value", "unit", "version"
    )


def _require_metric(metric: str, known: list[str]) -> None:
    if metric not in known:
        raise DataError(f"no metric {metric!r}{nearest(metric, known)}", fix=f"there are {', '.join(known)}")


def _patient_means(
    differences: npt.NDArray[np.float64], patients: Sequence[str | None] | None
) -> npt.NDArray[np.float64]:
    """Return one difference for each independent unit, as the signed-rank test needs them."""
    groups: dict[object, list[float]] = {}
    for case, difference in enumerate(differences.tolist()):
        patient = patients[case] if patients is not None else None
        groups.setdefault(case if patient is None else patient, []).append(difference)
    return np.round([float(np.mean(group)) for group in groups.values()], DIGITS)
