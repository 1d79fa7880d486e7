import numpy as np
import polars as pl
import pytest

from scanlore.errors import DataError
from scanlore.evaluation.metrics import accuracy
from scanlore.evaluation.paired import compare_trials, paired_difference
from scanlore.evaluation.tables import PREDICTIONS

TARGETS = np.tile([0, 1], 30)


def guesses(rate, seed):
    rng = np.random.default_rng(seed)
    return np.eye(2)[np.where(rng.random(60) < rate, TARGETS, 1 - TARGETS)]


def test_a_trial_against_itself():
    result = paired_difference(accuracy, TARGETS, guesses(0.7, 0), guesses(0.7, 0))
    assert (result.difference, result.low, result.high, result.p) == (0, 0, 0, 1)


def test_a_clear_difference():
    result = paired_difference(accuracy, TARGETS, guesses(1, 0), guesses(0.5, 0))
    assert result.low > 0
    assert result.p == pytest.approx(2 / 1001)
    assert result.num_cases == 60


def test_the_order_only_turns_the_sign():
    there = paired_difference(accuracy, TARGETS, guesses(0.8, 1), guesses(0.6, 2))
    back = paired_difference(accuracy, TARGETS, guesses(0.6, 2), guesses(0.8, 1))
    assert there.difference == -back.difference
    assert (there.low, there.p) == pytest.approx((-back.high, back.p))


def test_pairing_sees_a_small_steady_gain():
    first = guesses(0.6, 0)
    second = first.copy()
    wrong = np.flatnonzero(first.argmax(1) != TARGETS)[:8]
    first[wrong] = np.eye(2)[TARGETS[wrong]]
    assert paired_difference(accuracy, TARGETS, first, second).p < 0.05


def table(trial, probabilities, cases=range(60)):
    rows = [
        {
            "trial": trial,
            "case": f"{case}",
            "split": "test",
            "target": int(TARGETS[case]),
            "probabilities": row.tolist(),
        }
        for case, row in zip(cases, probabilities, strict=True)
    ]
    return pl.DataFrame(rows, schema=PREDICTIONS)


def test_tables_are_paired_by_case_whatever_their_order():
    first, second = table("a", guesses(0.9, 0)), table("b", guesses(0.6, 1))
    shuffled = compare_trials(first.sample(fraction=1, shuffle=True, seed=0), second, "accuracy")
    assert shuffled == compare_trials(first, second, "accuracy")
    assert shuffled.difference == pytest.approx(accuracy(TARGETS, guesses(0.9, 0)) - accuracy(TARGETS, guesses(0.6, 1)))


def test_trials_on_other_cases_are_refused():
    with pytest.raises(DataError, match="not scored on the same test cases"):
        compare_trials(table("a", guesses(0.9, 0)), table("b", guesses(0.6, 1)[:59], range(59)))
