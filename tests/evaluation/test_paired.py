import numpy as np
import polars as pl
import pytest
from scipy.stats import wilcoxon

from scanlore.errors import DataError
from scanlore.evaluation.metrics import accuracy
from scanlore.evaluation.paired import (
    compare_segmentations,
    compare_trials,
    paired_difference,
    paired_mean_difference,
    signed_rank_p,
)
from scanlore.evaluation.tables import PREDICTIONS, RESULTS

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
    assert (result.num_cases, result.num_patients) == (60, 60)


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


def test_an_unknown_metric_names_the_others():
    with pytest.raises(DataError, match="no metric 'acuracy'; did you mean 'accuracy'"):
        compare_trials(table("a", guesses(0.9, 0)), table("b", guesses(0.6, 1)), "acuracy")


def results(values, metric="dice", patients=None, version=1):
    """A results table from `{case: (value of front, value of back)}`."""
    rows = [
        {
            "trial": "t",
            "case": case,
            "patient": (patients or {}).get(case),
            "class_or_region": name,
            "metric": metric,
            "unit": "mm" if metric == "hd95" else "fraction",
            "version": version,
            "value": value,
        }
        for case, both in values.items()
        for name, value in zip(("front", "back"), both, strict=True)
    ]
    rows += [{"trial": "t", "case": None, "metric": metric, "unit": "fraction", "version": version, "value": 0.0}]
    return pl.DataFrame(rows, schema=RESULTS)


def test_segmentations_are_paired_by_case_over_their_classes():
    first = results({"a": (0.9, 0.7), "b": (0.5, 0.5), "only": (1.0, 1.0)})
    second = results({"b": (0.4, 0.4), "a": (0.8, 0.6)})
    result = compare_segmentations(first, second)
    assert (result.first, result.second, result.difference) == pytest.approx((0.65, 0.55, 0.1))
    assert (result.num_cases, result.only_first, result.only_second) == (2, ("only",), ())


def test_a_class_one_trial_invented_counts_against_it():
    # The class is absent in the reference: the first left it out and has no value, the second drew it and has 0
    result = compare_segmentations(results({"a": (0.8, None)}), results({"a": (0.8, 0.0)}))
    assert result.difference == pytest.approx(0.4)


def test_distances_compare_classes_that_both_have():
    first, second = results({"a": (2.0, 9.0)}, "hd95"), results({"a": (3.0, None)}, "hd95")
    assert compare_segmentations(first, second, "hd95").difference == pytest.approx(-1)


def test_two_segmentations_without_a_common_case_are_refused():
    with pytest.raises(DataError, match="no scored case in common: the first has 'a', the second 'b'"):
        compare_segmentations(results({"a": (1, 1)}), results({"b": (1, 1)}))
    with pytest.raises(DataError, match="no scored case"):
        compare_segmentations(results({}), results({"b": (1, 1)}))


def test_metrics_of_other_versions_are_refused():
    with pytest.raises(DataError, match="another definition"):
        compare_segmentations(results({"a": (1, 1)}), results({"a": (1, 1)}, version=2))


def test_cases_of_one_patient_are_one_unit():
    gains = np.tile([0.2, 0.1, -0.05, 0.3, 0.12, 0.07, 0.01], 3)
    patients = [f"p{index % 7}" for index in range(21)]
    grouped = paired_mean_difference(gains, np.zeros(21), patients)
    alone = paired_mean_difference(gains[:7], np.zeros(7))
    assert (grouped.num_cases, grouped.num_patients) == (21, 7)
    assert (grouped.low, grouped.high, grouped.p) == pytest.approx((alone.low, alone.high, alone.p))
    assert grouped.wilcoxon_p == alone.wilcoxon_p == wilcoxon(gains[:7]).pvalue


def test_signed_ranks_by_hand():
    # Six gains of different size: only all plus and all minus are as extreme, 2 of 2^6
    assert signed_rank_p(np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])) == pytest.approx(2 / 64)
    assert signed_rank_p(np.zeros(5)) == 1
    # One zero among them keeps its rank but decides nothing
    assert signed_rank_p(np.array([0.0, 0.2, 0.3, 0.4, 0.5, 0.6])) > 2 / 64


def test_rounding_makes_no_difference():
    first = results({str(case): (0.1, 0.2 + 0.1) for case in range(9)})
    second = results({str(case): (0.3, 0.1) for case in range(9)})
    result = compare_segmentations(first, second)
    assert (result.difference, result.p, result.wilcoxon_p) == (0, 1, 1)


def test_means_over_other_classes_are_no_comparison():
    rows = {"case": ["a"], "patient": [None], "value": [0.5], "metric": ["dice"], "unit": ["fraction"], "version": [1]}
    one, two = (pl.DataFrame(rows | {"class_or_region": [name]}) for name in ("head", "Anterior"))
    with pytest.raises(DataError, match="score other classes: head and Anterior"):
        compare_segmentations(one, two)


def test_a_metric_without_a_value_in_both_says_so():
    rows = {"case": ["a"], "patient": [None], "metric": ["hd95"], "unit": ["mm"], "version": [1]}
    one, two = (
        pl.DataFrame(rows | {"class_or_region": ["one"], "value": [value]}, schema_overrides={"value": pl.Float64})
        for value in (1.0, None)
    )
    with pytest.raises(DataError, match="hd95 has no value in both trials"):
        compare_segmentations(one, two, "hd95")
