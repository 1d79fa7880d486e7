import numpy as np
import pytest
from sklearn import metrics as reference

from scanlore.evaluation.metrics import (
    METRICS,
    accuracy,
    balanced_accuracy,
    class_auroc,
    confusion_matrix,
    macro_auroc,
    macro_f1,
    missing_reason,
)


@pytest.fixture
def three_classes():
    rng = np.random.default_rng(0)
    targets = rng.integers(3, size=60)
    logits = rng.normal(size=(60, 3)).round(1) + np.eye(3)[targets]
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return targets, probabilities


def test_against_sklearn(three_classes):
    targets, probabilities = three_classes
    predicted = probabilities.argmax(1)
    assert macro_auroc(*three_classes) == pytest.approx(
        reference.roc_auc_score(targets, probabilities, multi_class="ovr", average="macro")
    )
    assert macro_f1(*three_classes) == pytest.approx(reference.f1_score(targets, predicted, average="macro"))
    assert accuracy(*three_classes) == pytest.approx(reference.accuracy_score(targets, predicted))
    assert balanced_accuracy(*three_classes) == pytest.approx(reference.balanced_accuracy_score(targets, predicted))
    assert (confusion_matrix(*three_classes) == reference.confusion_matrix(targets, predicted)).all()


def binary(scores):
    return np.stack([1 - np.array(scores), np.array(scores)], 1)


def test_auroc_by_hand():
    # Of the four pairs (0.8, 0.7), (0.8, 0.2), (0.7, 0.7), (0.7, 0.2) one is a tie: 3.5 / 4.
    assert macro_auroc(np.array([1, 1, 0, 0]), binary([0.8, 0.7, 0.7, 0.2])) == 0.875


def test_f1_by_hand():
    # Class 0: 2*1/(2*1+1) = 2/3, class 1: 2*2/(2*2+1) = 4/5.
    value = macro_f1(np.array([0, 0, 1, 1]), binary([0.1, 0.9, 0.9, 0.9]))
    assert value == pytest.approx((2 / 3 + 4 / 5) / 2)


def test_a_class_never_predicted_has_f1_zero():
    assert macro_f1(np.array([0, 1]), binary([0.1, 0.1])) == pytest.approx((2 / 3 + 0) / 2)


def test_an_absent_class_is_undefined_not_zero():
    targets, probabilities = np.array([0, 1, 1]), np.eye(3)[[0, 1, 1]]
    for name in ("macro_auroc", "balanced_accuracy", "macro_f1"):
        assert np.isnan(METRICS[name].function(targets, probabilities))
    assert accuracy(targets, probabilities) == 1
    assert missing_reason(targets, ("a", "b", "c")) == "no case of class 'c'"
    assert missing_reason(np.array([0, 1, 2]), ("a", "b", "c")) is None


def test_probabilities_that_are_no_numbers_have_no_auroc():
    assert np.isnan(class_auroc(np.array([0, 1]), np.array([[np.nan, 1], [0, 1]]), 1))
