import itertools

import pytest

from scanlore.errors import ConfigError
from scanlore.tasks.budget import label_budget, parse_labels

CASES = [(f"case_{index:03d}", None) for index in range(128)]
FEW_PATIENTS = [(f"case_{index:03d}", f"p{index // 4}") for index in range(40)]


@pytest.mark.parametrize(
    ("text", "budget"),
    [("all", "all"), (" ALL ", "all"), ("10", 10), ("1", 1), ("0.1", 0.1), ("10%", 0.1), ("1.0", 1.0), ("100%", 1.0)],
)
def test_parse(text, budget):
    parsed = parse_labels(text)
    assert parsed == budget
    assert type(parsed) is type(budget)


@pytest.mark.parametrize("text", ["0", "-3", "1.5", "0.0", "110%", "0%", "nan", "inf", "few", "", "%"])
def test_no_budget(text):
    with pytest.raises(ConfigError, match="is no number of labels"):
        parse_labels(text)


@pytest.mark.parametrize("cases", [CASES, FEW_PATIENTS])
def test_budgets_are_nested(cases):
    chosen = [label_budget(cases, labels, seed=1) for labels in (5, 10, 0.5, "all")]
    for smaller, larger in itertools.pairwise(chosen):
        assert set(smaller) < set(larger)
    assert chosen[-1] == list(range(len(cases)))


def test_sizes():
    assert [len(label_budget(CASES, labels, 0)) for labels in (10, 0.1, 1.0, 128)] == [10, 13, 128, 128]


def test_the_seed_decides_and_not_the_order_of_cases():
    names = {CASES[index] for index in label_budget(CASES, 10, seed=1)}
    assert names == {CASES[::-1][index] for index in label_budget(CASES[::-1], 10, seed=1)}
    assert names != {CASES[index] for index in label_budget(CASES, 10, seed=2)}


def test_cases_of_a_patient_stay_together():
    patients = [FEW_PATIENTS[index][1] for index in label_budget(FEW_PATIENTS, 8, seed=3)]
    assert len(set(patients)) == 2


def test_a_share_that_leaves_no_scan():
    with pytest.raises(ConfigError, match=r"0\.001 of 128 training cases leaves no scan .*at least 0\.0078"):
        label_budget(CASES, 0.001, 0)


def test_more_labels_than_cases():
    with pytest.raises(ConfigError, match=r"asks for 200, and there are 128 training cases .*take 128 or fewer"):
        label_budget(CASES, 200, 0)
