"""Training, validation and test cases: given splits completed, by patient where patients are known."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from scanlore.errors import DataError
from scanlore.tasks.classification import ClassificationTask, require_training_cases
from scanlore.tasks.segmentation import SegmentationTask

TEST_FRACTION = 0.2
VAL_FRACTION = 0.2
Task = ClassificationTask | SegmentationTask


@dataclass(frozen=True)
class Splits:
    """The split of every case of a task.

    Attributes:
        of_case: `train`, `val`, `test`, or `None` for a case without label, which is predicted only.
        patients: `known` when every labelled case names its patient: no patient is then on two sides; else `unknown`.
    """

    of_case: tuple[str | None, ...]
    patients: Literal["known", "unknown"]

    def indices(self, split: str) -> list[int]:
        """Return the indices of the cases of one split, ascending."""
        return [index for index, name in enumerate(self.of_case) if name == split]


def complete_splits(task: Task, seed: int, needs_val: bool, draws_val: bool | None = None) -> Splits:
    """Complete the splits a task gives: a fifth for testing, and a fifth of the rest for validation where needed.

    What is drawn is drawn by patient where known, else by case. In a classification task it is stratified by class, and
    each class keeps a training case. The same seed draws the same cases, whatever their order.

    Args:
        task: The task; splits it gives are kept.
        seed: Of the draw.
        needs_val: Whether the protocol chooses by validation, and cannot do without.
        draws_val: Whether validation cases are drawn; `None` where they are needed.

    Raises:
        DataError: A class is left without a training case, or nothing is left to train on, to test on or to choose by.
    """
    strata = _strata(task)
    labelled = [index for index, stratum in enumerate(strata) if stratum is not None]
    split_of = {index: task.cases[index].split or "train" for index in labelled}
    for position, (split, fraction) in enumerate({"test": TEST_FRACTION, "val": VAL_FRACTION}.items()):
        wanted = split == "test" or (needs_val if draws_val is None else draws_val)
        if wanted and split not in split_of.values():
            pool = [index for index, name in split_of.items() if name == "train"]
            chosen = _draw(_units(task, pool), strata, fraction, np.random.default_rng([seed, position]))
            split_of |= dict.fromkeys(chosen, split)
    names = [split_of.get(index) for index in range(len(task.cases))]
    _check(task, names, needs_val)
    is_known = all(task.cases[index].patient for index in labelled)
    return Splits(tuple(names), "known" if is_known else "unknown")


def _strata(task: Task) -> list[int | None]:
    """Return what the cases are drawn evenly from, a number for each; `None` for cases without label."""
    if isinstance(task, ClassificationTask):
        return [case.label for case in task.cases]
    return [None if case.mask is None else 0 for case in task.cases]


def _draw(
    units: Sequence[Sequence[int]], strata: Sequence[int | None], fraction: float, rng: np.random.Generator
) -> list[int]:
    """Draw a share of the patients of every stratum; at least one, and never the last."""
    by_stratum: dict[int, list[Sequence[int]]] = defaultdict(list)
    for unit in units:
        by_stratum[_commonest(strata, unit)].append(unit)
    chosen: list[int] = []
    for stratum in sorted(by_stratum):
        members = by_stratum[stratum]
        num_drawn = min(len(members) - 1, max(1, round(fraction * len(members))))
        chosen += [index for unit in rng.permutation(len(members))[:num_drawn] for index in members[unit]]
    return chosen


def _commonest(strata: Sequence[int | None], unit: Sequence[int]) -> int:
    counts = Counter(stratum for index in unit if (stratum := strata[index]) is not None)
    return max(counts, key=lambda stratum: (counts[stratum], stratum))


def _units(task: Task, pool: Sequence[int]) -> list[list[int]]:
    """Group cases by patient, a case of unknown patient alone; in the order of names."""
    names = task.names
    units: dict[str, list[int]] = defaultdict(list)
    for index in sorted(pool, key=lambda index: names[index]):
        units[task.cases[index].patient or f"case {names[index]}"].append(index)
    return list(units.values())


def _check(task: Task, splits: Sequence[str | None], needs_val: bool) -> None:
    is_classification = isinstance(task, ClassificationTask)
    if isinstance(task, ClassificationTask):
        require_training_cases(task, [index for index, split in enumerate(splits) if split == "train"], task.name)
    if "test" not in splits:
        fix = f"give two cases{' a class' if is_classification else ''} or more"
        raise DataError("too few cases: none is left to test on", where=task.name, fix=fix)
    if needs_val and isinstance(task, ClassificationTask):
        _check_validation(task, splits)
    elif needs_val and "val" not in splits:
        fix = "give three cases or more, or choose nothing by validation"
        raise DataError("too few cases: none is left to choose by", where=task.name, fix=fix)


def _check_validation(task: ClassificationTask, splits: Sequence[str | None]) -> None:
    present = {case.label for case, split in zip(task.cases, splits, strict=True) if split == "val"}
    absent = [repr(name) for number, name in enumerate(task.classes) if number not in present]
    if absent:
        fix = "give it three cases or more, or take the protocol knn, which chooses nothing"
        raise DataError(f"no validation case of class {', '.join(absent)}", where=task.name, fix=fix)
