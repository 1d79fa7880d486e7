"""Compare two trials on the same cases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scanlore.errors import DataError
from scanlore.evaluation.bootstrap import LEVEL, NUM_RESAMPLES, percentile_interval, resamples
from scanlore.evaluation.metrics import METRICS, MetricFunction, Probabilities, Targets

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class PairedDifference:
    """By how much the first of two trials is better on the same cases.

    Attributes:
        difference: First minus second, in the metric's unit.
        low: Lower end of the interval.
        high: Upper end.
        p: Two-sided bootstrap p-value of no difference; never below `2 / (num_resamples + 1)`.
        num_cases: Cases both trials have.
        num_resamples: Resamples it rests on.
        num_skipped: Resamples left out, because a class had no case in them.
    """

    difference: float
    low: float
    high: float
    p: float
    num_cases: int
    num_resamples: int
    num_skipped: int


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

    The p-value inverts the percentile interval: twice the smaller share of resamples on one side of zero, each share
    with one added above and below (Davison and Hinkley 1997, section 4.4).

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
    interval = percentile_interval(values.tolist(), level)
    valid = values[np.isfinite(values)]
    tail = min((valid <= 0).sum(), (valid >= 0).sum())
    return PairedDifference(
        difference=function(targets, first) - function(targets, second),
        low=interval.low,
        high=interval.high,
        p=float(min(1.0, 2 * (tail + 1) / (len(valid) + 1))) if len(valid) else np.nan,
        num_cases=len(targets),
        num_resamples=interval.num_resamples,
        num_skipped=interval.num_skipped,
    )


def compare_trials(
    first: pl.DataFrame, second: pl.DataFrame, metric: str = "macro_auroc", seed: int = 0
) -> PairedDifference:
    """Compare two trials from their `predictions` tables, on the labelled test cases.

    Args:
        first: Predictions of one trial.
        second: Predictions of the other, on the same task.
        metric: A name in `METRICS`.
        seed: Of the resampling.

    Raises:
        DataError: The trials were not scored on the same cases with the same targets.
    """
    import polars as pl

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
