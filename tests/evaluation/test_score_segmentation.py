import weakref

import numpy as np
import pytest

from scanlore.evaluation.bootstrap import percentile_interval, resample_means, resamples
from scanlore.evaluation.score_segmentation import MaskPair, MissingPair, class_means, score_segmentation

LABELS = {0: "background", 1: "front", 2: "back"}


def mask(front, back):
    """A row of twelve voxels: the first `front` of class 1, the last `back` of class 2."""
    voxels = np.zeros((1, 12), dtype=np.uint8)
    voxels[0, :front] = 1
    voxels[0, 12 - back :] = 2
    return voxels


def pair(name, reference, prediction, patient=None):
    return MaskPair(name, patient, mask(*reference), mask(*prediction), (1.0, 1.0))


def of_set(rows, metric="dice"):
    return {row["class_or_region"]: row for row in rows if row["metric"] == metric and row.get("case") is None}


def test_means_over_cases_and_classes_by_hand():
    # Dice of front: 1 and 2/3; of back: 1/2 and 1
    rows = score_segmentation("t", [pair("a", (3, 1), (3, 3)), pair("b", (2, 4), (1, 4))], LABELS)
    summary = of_set(rows)
    assert {name: row["value"] for name, row in summary.items()} == pytest.approx(
        {None: (0.75 + 5 / 6) / 2, "front": 5 / 6, "back": 0.75}
    )
    assert {row["n"] for row in summary.values()} == {2}
    assert [row["case"] for row in rows if "case" in row] == ["a"] * 8 + ["b"] * 8


def test_classes_without_value_are_left_out_and_counted():
    rows = score_segmentation("t", [pair("a", (3, 0), (3, 0)), pair("b", (2, 4), (1, 4))], LABELS)
    summary = of_set(rows)
    assert summary["back"]["n"] == 1
    assert summary[None]["value"] == pytest.approx((1 + 5 / 6) / 2)


def test_a_class_nobody_has_says_so():
    row = of_set(score_segmentation("t", [pair("a", (3, 0), (3, 0))], LABELS), "hd95")["back"]
    assert (row["value"], row["n"], row["reason"]) == (None, 0, "in every case: absent in reference and prediction")


def test_a_case_that_cannot_be_scored_has_its_reason():
    rows = score_segmentation("t", [MissingPair("x", "p", "no prediction"), pair("a", (3, 1), (3, 1))], LABELS)
    missing = [row for row in rows if row.get("case") == "x"]
    assert [(row["patient"], row["reason"], row.get("value")) for row in missing] == [("p", "no prediction", None)]
    assert of_set(rows)[None]["n"] == 1


def test_no_case_at_all():
    rows = score_segmentation("t", [MissingPair("x", None, "no prediction")], LABELS)
    assert {row["metric"]: row["reason"] for row in rows if row.get("case") is None} == dict.fromkeys(
        ["dice", "jaccard", "hd95", "nsd@1mm"], "no case could be scored"
    )


def test_intervals_draw_patients_whole():
    cases = [pair(str(index), (4, 4), (1 + index % 4, 4), f"p{index // 3}") for index in range(12)]
    rows = score_segmentation("t", cases, LABELS, seed=3)
    values = np.array([row["value"] for row in rows if row.get("case") and row["metric"] == "dice"]).reshape(12, 2)
    patients = [case.patient for case in cases]
    expected = percentile_interval([values[drawn].mean() for drawn in resamples(12, patients, 1000, 3)])
    row = of_set(rows)[None]
    assert (row["low"], row["high"]) == pytest.approx((expected.low, expected.high))
    alone = of_set(score_segmentation("t", [pair(case.case, (4, 4), (1, 4)) for case in cases], LABELS))[None]
    assert (alone["low"], alone["high"]) == pytest.approx((alone["value"], alone["value"]))


def test_one_case_in_memory_at_a_time():
    made = []

    def make(index):
        assert [reference() for reference in made] == [None] * index
        case = pair(str(index), (3, 3), (3, 3))
        made.append(weakref.ref(case))
        return case

    score_segmentation("t", (make(index) for index in range(4)), LABELS)
    assert len(made) == 4


def test_resampled_means_leave_missing_values_out():
    values = np.array([[1.0, np.nan], [3.0, np.nan], [np.nan, 5.0]])
    means = resample_means(values, num_resamples=200, seed=0)
    expected = []
    for rows in resamples(3, None, 200, 0):
        known = [values[row, 0] for row in rows if row != 2]
        expected.append((np.mean(known) if known else np.nan, 5.0 if 2 in rows else np.nan))
    np.testing.assert_allclose(means, expected)


def test_class_means_are_by_case():
    assert class_means(np.array([[1.0, np.nan], [0.5, 1.0]])).tolist() == [1.0, 0.75]
    assert np.isnan(class_means(np.array([[np.nan, np.nan]]))).all()
