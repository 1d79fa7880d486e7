import numpy as np

from scanlore.evaluation.score import score_classification, unread_cases

TARGETS = np.tile([0, 1, 2], 10)


def test_every_metric_and_every_class():
    rows = score_classification("t", ("a", "b", "c"), TARGETS, np.eye(3)[TARGETS] * 0.8 + 0.1, [None] * 30)
    assert [(row["metric"], row["class_or_region"]) for row in rows] == [
        ("macro_auroc", None), ("accuracy", None), ("balanced_accuracy", None), ("macro_f1", None),
        ("auroc", "a"), ("auroc", "b"), ("auroc", "c"),
    ]  # fmt: skip
    assert all((row["value"], row["low"], row["high"], row["n"], row["reason"]) == (1, 1, 1, 30, None) for row in rows)


def test_an_undefined_metric_says_why():
    targets = TARGETS[TARGETS < 2]
    rows = score_classification("t", ("a", "b", "c"), targets, np.eye(3)[targets], [None] * 20)
    reasons = {(row["metric"], row["class_or_region"]): row["reason"] for row in rows if row["value"] is None}
    assert reasons == dict.fromkeys(
        [("macro_auroc", None), ("balanced_accuracy", None), ("macro_f1", None), ("auroc", "c")], "no case of class 'c'"
    )


def test_two_classes_have_one_auroc():
    rows = score_classification("t", ("a", "b"), np.array([0, 1]), np.eye(2), [None, None])
    assert [row["metric"] for row in rows].count("auroc") == 0


def test_unread_cases_have_a_reason():
    rows = unread_cases("t", {"x.png": "cannot be read"}, {"x.png": "patient-00001"})
    assert [(row["case"], row["patient"], row["reason"]) for row in rows] == [
        ("x.png", "patient-00001", "not read: cannot be read")
    ]
