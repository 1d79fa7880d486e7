import numpy as np
import pytest

from scanlore.evaluation.bootstrap import bootstrap_interval, percentile_interval, resamples
from scanlore.evaluation.metrics import accuracy, macro_auroc


def correct_with(rate, num_cases, seed):
    rng = np.random.default_rng(seed)
    targets = rng.integers(2, size=num_cases)
    predicted = np.where(rng.random(num_cases) < rate, targets, 1 - targets)
    return targets, np.eye(2)[predicted]


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    intervals = [
        bootstrap_interval(accuracy, *correct_with(0.7, 80, seed), num_resamples=200, seed=seed) for seed in range(200)
    ]
    covered = np.mean([interval.low <= 0.7 <= interval.high for interval in intervals])
    assert 0.88 < covered < 0.99


def test_the_seed_decides():
    data = correct_with(0.7, 30, 0)
    assert bootstrap_interval(accuracy, *data, seed=1) == bootstrap_interval(accuracy, *data, seed=1)
    draws = [next(resamples(30, None, 1, seed)).tolist() for seed in (1, 2)]
    assert draws[0] != draws[1]


def test_patients_are_drawn_whole():
    for rows in resamples(6, ["a", "a", "b", "b", "b", None], 20, 0):
        counts = np.bincount(rows, minlength=6)
        assert counts[0] == counts[1]
        assert counts[2] == counts[3] == counts[4]
        assert counts[0] + counts[2] + counts[5] == 3


def test_twins_do_not_narrow_the_interval():
    targets, probabilities = correct_with(0.7, 40, 3)
    patients = [str(index) for index in range(40)]
    alone = bootstrap_interval(accuracy, targets, probabilities, patients)
    twins = bootstrap_interval(accuracy, np.tile(targets, 5), np.tile(probabilities, (5, 1)), patients * 5)
    assert (twins.low, twins.high) == pytest.approx((alone.low, alone.high))


def test_resamples_without_a_class_are_skipped_and_counted():
    targets = np.array([1, 0, 0, 0])
    interval = bootstrap_interval(macro_auroc, targets, np.eye(2)[targets], num_resamples=500)
    assert (interval.low, interval.high) == (1, 1)
    # A resample lacks the only positive case with chance (3/4)^4 = 0.32, or all negatives with 1/256.
    assert 0.25 < interval.num_skipped / 500 < 0.40
    assert interval.num_resamples + interval.num_skipped == 500


def test_no_value_at_all():
    assert np.isnan(percentile_interval([np.nan, np.nan]).low)
