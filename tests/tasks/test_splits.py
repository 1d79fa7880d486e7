from collections import Counter
from pathlib import Path

import pytest

from scanlore.errors import DataError
from scanlore.tasks.classification import Case, ClassificationTask
from scanlore.tasks.segmentation import SegmentationCase, SegmentationTask
from scanlore.tasks.splits import complete_splits


def make_task(rows):
    """Rows of (label, patient, split)."""
    cases = tuple(Case(Path(f"{index:03d}.png"), *row) for index, row in enumerate(rows))
    return ClassificationTask("t", Path(), ("a", "b"), cases)


MANY = [(index % 2, f"p{index // 3}", None) for index in range(60)]


@pytest.mark.parametrize("seed", range(5))
def test_a_patient_is_never_on_two_sides(seed):
    task = make_task(MANY)
    splits = complete_splits(task, seed, needs_val=True)
    sides = {(case.patient, split) for case, split in zip(task.cases, splits.of_case, strict=True)}
    assert max(Counter(patient for patient, _ in sides).values()) == 1
    assert splits.patients == "known"
    assert {split for _, split in sides} == {"train", "val", "test"}


def test_fractions_are_stratified():
    task = make_task([(int(index < 20), None, None) for index in range(100)])
    splits = complete_splits(task, 0, needs_val=True)
    counts = Counter((split, case.label) for case, split in zip(task.cases, splits.of_case, strict=True))
    assert counts == {
        ("test", 1): 4, ("val", 1): 3, ("train", 1): 13, ("test", 0): 16, ("val", 0): 13, ("train", 0): 51,
    }  # fmt: skip
    assert splits.patients == "unknown"


def test_the_seed_decides():
    task = make_task(MANY)
    assert complete_splits(task, 1, needs_val=True) == complete_splits(task, 1, needs_val=True)
    assert complete_splits(task, 1, needs_val=True) != complete_splits(task, 2, needs_val=True)


def test_given_splits_stay():
    given = [(index % 2, None, "test" if index < 4 else "train") for index in range(20)]
    splits = complete_splits(make_task(given), 0, needs_val=False)
    assert splits.of_case == tuple(split for _, _, split in given)
    assert splits.indices("test") == [0, 1, 2, 3]


def test_validation_comes_from_training_only():
    given = [(index % 2, None, "test" if index < 4 else "train") for index in range(20)]
    splits = complete_splits(make_task(given), 0, needs_val=True)
    assert splits.indices("test") == [0, 1, 2, 3]
    assert len(splits.indices("val")) == 4


def test_unlabelled_cases_stay_outside():
    rows = [*[(index % 2, None, None) for index in range(10)], (None, None, None), (None, None, "test")]
    splits = complete_splits(make_task(rows), 0, needs_val=False)
    assert splits.of_case[-2:] == (None, None)
    assert len(splits.indices("test")) == 2


def test_some_patients_unknown_is_unknown():
    splits = complete_splits(make_task([*MANY, (0, None, None)]), 0, needs_val=False)
    assert splits.patients == "unknown"


def test_too_few_cases():
    with pytest.raises(DataError, match="none is left to test on"):
        complete_splits(make_task([(0, None, None), (1, None, None)]), 0, needs_val=False)
    with pytest.raises(DataError, match=r"no validation case of class 'a', 'b'.*knn"):
        complete_splits(make_task([(0, None, None), (1, None, None)] * 2), 0, needs_val=True)


def make_segmentation_task(num_cases, patients=False, unlabelled=0, split=None):
    cases = tuple(
        SegmentationCase(
            f"{index:03d}",
            (Path(f"{index:03d}.png"),),
            None if index < unlabelled else Path("m.png"),
            f"p{index // 3}" if patients else None,
            split,
        )
        for index in range(num_cases)
    )
    return SegmentationTask("t", cases, {0: "background", 1: "a"}, ("MRI",))


def test_segmentation_splits_are_fifths():
    splits = complete_splits(make_segmentation_task(160), 0, needs_val=True)
    assert [len(splits.indices(split)) for split in ("train", "val", "test")] == [102, 26, 32]
    assert splits.patients == "unknown"
    assert splits != complete_splits(make_segmentation_task(160), 1, needs_val=True)


def test_segmentation_splits_are_by_patient():
    task = make_segmentation_task(60, patients=True)
    splits = complete_splits(task, 0, needs_val=True)
    sides = {(case.patient, split) for case, split in zip(task.cases, splits.of_case, strict=True)}
    assert max(Counter(patient for patient, _ in sides).values()) == 1
    assert splits.patients == "known"


def test_cases_without_mask_stay_outside():
    splits = complete_splits(make_segmentation_task(10, unlabelled=3), 0, needs_val=False)
    assert splits.of_case[:3] == (None, None, None)
    assert len(splits.indices("test")) == 1


def test_too_few_scans():
    with pytest.raises(DataError, match="none is left to test on"):
        complete_splits(make_segmentation_task(1), 0, needs_val=False)
    with pytest.raises(DataError, match="none is left to choose by"):
        complete_splits(make_segmentation_task(2), 0, needs_val=True)
