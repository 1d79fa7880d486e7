"""Uncertainty from resampling patients (or cases, where patients are unknown)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scanlore.evaluation.metrics import MetricFunction, Probabilities, Targets

NUM_RESAMPLES = 1000
LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A percentile interval.

    Attributes:
        low: Lower end; NaN when no resample gave a value.
        high: Upper end.
        num_resamples: Resamples it rests on.
        num_skipped: Resamples left out, because a class had no case in them.
    """

    low: float
    high: float
    num_resamples: int
    num_skipped: int


def bootstrap_interval(
    function: MetricFunction,
    targets: Targets,
    probabilities: Probabilities,
    patients: Sequence[str | None] | None = None,
    *,
    num_resamples: int = NUM_RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> Interval:
    """Return the percentile bootstrap interval of a metric (Efron and Tibshirani 1993, section 13.3).

    Args:
        function: The metric.
        targets: `(N,)` true classes.
        probabilities: `(N, K)`.
        patients: Patient of each case; all cases of a patient are drawn together. `None` for a case of its own.
        num_resamples: Number of resamples.
        level: Coverage of the interval.
        seed: Of the resampling.
    """
    draws = resamples(len(targets), patients, num_resamples, seed)
    return percentile_interval([function(targets[rows], probabilities[rows]) for rows in draws], level)


def resamples(
    num_cases: int, patients: Sequence[str | None] | None, num_resamples: int, seed: int
) -> Iterator[npt.NDArray[np.intp]]:
    """Yield the case indices of each resample: as many patients as there are, drawn with replacement."""
    rng = np.random.default_rng(seed)
    clusters = _clusters(num_cases, patients)
    for _ in range(num_resamples):
        drawn = rng.integers(len(clusters), size=len(clusters))
        yield np.concatenate([clusters[index] for index in drawn])


def num_units(num_cases: int, patients: Sequence[str | None] | None) -> int:
    """Return how many independent units are drawn: patients, and cases of unknown patient."""
    return len(_clusters(num_cases, patients))


def resample_means(
    values: npt.NDArray[np.float64],
    patients: Sequence[str | None] | None = None,
    *,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> npt.NDArray[np.float64]:
    """Return the mean of every column in every resample of the rows, missing values left out.

    Args:
        values: `(N, M)`, a row for each case; NaN where a case has no value.
        patients: Patient of each case; all cases of a patient are drawn together. `None` for a case of its own.
        num_resamples: Number of resamples.
        seed: Of the resampling.

    Returns:
        `(num_resamples, M)`; NaN where a resample holds no value.
    """
    draws = resamples(len(values), patients, num_resamples, seed)
    times = np.stack([np.bincount(rows, minlength=len(values)) for rows in draws]).astype(np.float64)
    is_value = np.isfinite(values)
    counts = times @ is_value.astype(np.float64)
    sums = times @ np.where(is_value, values, 0.0)
    means = np.full_like(sums, np.nan)
    np.divide(sums, counts, out=means, where=counts > 0)
    return means


def percentile_interval(values: Sequence[float], level: float = LEVEL) -> Interval:
    """Return the central interval of resampled values, NaN ones left out and counted."""
    array = np.asarray(values, dtype=np.float64)
    valid = array[np.isfinite(array)]
    low, high = np.quantile(valid, [(1 - level) / 2, (1 + level) / 2]) if len(valid) else (np.nan, np.nan)
    return Interval(float(low), float(high), len(valid), len(array) - len(valid))


def _clusters(num_cases: int, patients: Sequence[str | None] | None) -> list[npt.NDArray[np.intp]]:
    groups: dict[object, list[int]] = {}
    for case in range(num_cases):
        patient = patients[case] if patients is not None else None
        groups.setdefault(case if patient is None else patient, []).append(case)
    return [np.asarray(rows, dtype=np.intp) for rows in groups.values()]
