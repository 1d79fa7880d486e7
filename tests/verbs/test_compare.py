import math

import numpy as np
import pytest

from scanlore.errors import ConfigError, DataError
from scanlore.evaluation.metrics import METRICS, Metric, result_row
from scanlore.evaluation.tables import write_tables
from scanlore.verbs.compare import compare

TARGETS = np.tile([0, 1], 10)


def write_segmentation(folder, values, fingerprint="f", patients=None):
    """Tables of a trial with the Dice `{case: value}` of one class."""
    folder.mkdir(parents=True)
    known = {"metric": "dice", "unit": "fraction", "version": 1}
    rows = [
        {"trial": "t", "case": case, "patient": (patients or {}).get(case), "class_or_region": "a", "value": value}
        for case, value in values.items()
    ]
    trial = {"trial": "t", "task_kind": "segmentation", "task_fingerprint": fingerprint}
    trial["patients"] = "known" if patients else "unknown"
    write_tables(folder, [trial], [], [row | known for row in rows])
    return folder


def write_classification(folder, num_wrong, kind=None):
    """Tables of a trial that takes the first cases for the other class; `kind` as older runs wrote it."""
    folder.mkdir(parents=True)
    predicted = np.where(np.arange(20) < num_wrong, 1 - TARGETS, TARGETS)
    predictions = [
        {"trial": "t", "case": str(case), "split": "test", "target": int(target), "probabilities": row.tolist()}
        for case, (target, row) in enumerate(zip(TARGETS, np.eye(2)[predicted], strict=True))
    ]
    results = [result_row("t", name, metric, 20) for name, metric in METRICS.items()]
    write_tables(folder, [{"trial": "t", "patients": "unknown", "task_kind": kind}], predictions, results)
    return folder


def test_segmentations(tmp_path):
    gains = np.linspace(0.01, 0.1, 10)
    one = write_segmentation(tmp_path / "one", {str(case): 0.8 + gain for case, gain in enumerate(gains)})
    two = write_segmentation(tmp_path / "two", {str(case): 0.8 for case in range(10)})
    result = compare(one, two)
    assert (result.metric, result.unit, result.found.num_cases) == ("dice", "fraction", 10)
    assert result.found.difference == pytest.approx(gains.mean())
    assert result.verdict == (
        "dice 0.8550 against 0.8000: difference +0.0550 (95 % interval "
        f"{result.found.low:+.4f} to {result.found.high:+.4f}), bootstrap p 0.002, Wilcoxon p 0.002; 10 common cases"
    )
    assert result.warnings == ("patients are unknown: cases are taken as independent",)


def test_what_is_missing_on_either_side_is_said(tmp_path):
    patients = {case: f"p{case}" for case in "abcd"}
    one = write_segmentation(tmp_path / "one", {"a": 0.8, "b": 0.7, "c": 0.9}, patients=patients)
    two = write_segmentation(tmp_path / "two", {"a": 0.8, "b": 0.6, "d": 0.9}, "other", patients)
    assert compare(one, two).warnings == (
        "the task had other cases, masks or label names when the second was scored",
        "2 independent cases: too few for a bootstrap, whose interval is too narrow then",
        f"{two} has no value for 1 case of the other: c",
        f"{one} has no value for 1 case of the other: d",
    )


def test_the_evaluation_of_predictions_is_found(tmp_path):
    write_segmentation(tmp_path / "one" / "evaluation", {"a": 0.8, "b": 0.7})
    two = write_segmentation(tmp_path / "two", {"a": 0.8, "b": 0.6})
    assert compare(tmp_path / "one", two).found.difference == pytest.approx(0.05)


def test_classifications(tmp_path):
    one, two = write_classification(tmp_path / "one", 2), write_classification(tmp_path / "two", 8, "classification")
    result = compare(one, two, "accuracy")
    assert result.found.difference == pytest.approx(0.3)
    assert result.found.wilcoxon_p is None
    assert "Wilcoxon" not in result.verdict
    assert compare(one, two).metric == "macro_auroc"


def test_a_metric_without_value_is_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(METRICS, "accuracy", Metric(lambda targets, probabilities: np.nan))
    one = write_classification(tmp_path / "one", 2)
    with pytest.raises(DataError, match="accuracy is undefined"):
        compare(one, one, "accuracy")


def test_folders_without_a_common_case_are_refused(tmp_path):
    one, two = write_segmentation(tmp_path / "one", {"a": 1.0}), write_segmentation(tmp_path / "two", {"b": 1.0})
    with pytest.raises(DataError, match="no scored case in common: the first has 'a', the second 'b'"):
        compare(one, two)


def test_other_kinds_metrics_and_places_are_refused(tmp_path):
    one = write_segmentation(tmp_path / "one", {"a": 1.0})
    other = write_classification(tmp_path / "other", 2)
    with pytest.raises(DataError, match="the first is a trial of segmentation, the second one of classification"):
        compare(one, other)
    with pytest.raises(DataError, match="no metric 'dise'; did you mean 'dice'"):
        compare(one, one, "dise")
    with pytest.raises(DataError, match="nowhere: no such folder"):
        compare(one, tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"holds no table 'trials'.*scanlore evaluate"):
        compare(one, tmp_path)
    with pytest.raises(ConfigError, match="seed: must be 0 or more"):
        compare(one, one, seed=-1)


def test_a_single_patient_has_no_interval(tmp_path):
    one, two = (write_segmentation(tmp_path / name, {"a": value}) for name, value in (("one", 0.8), ("two", 0.7)))
    result = compare(one, two)
    assert result.found.difference == pytest.approx(0.1)
    assert all(math.isnan(value) for value in (result.found.low, result.found.high, result.found.p))
    assert "a single patient has no interval" in result.verdict
