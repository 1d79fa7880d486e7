"""Training, validation and test cases: given splits completed, by patient where patients are known."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from scanlore.errors import DataError
from scanlore.tasks.classification import ClassificationTask, require_training_cases

TEST_FRACTION = 0.2
VAL_FRACTION = 0.2


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


def complete_splits(task: ClassificationTask, seed: int, needs_val: bool) -> Splits:
    """Complete the splits a task gives: a fifth for testing, and a fifth of the rest for validation where needed.

    What is drawn is stratified by class and drawn by patient where known, else by case; each class keeps a training
    case. The same seed draws the same cases, whatever their order.

    Args:
        task: The task; splits it gives are kept.
        seed: Of the draw.
        needs_val: Whether the protocol chooses by validation.

    Raises:
        DataError: A class is left without a training case, or nothing is left to test on or to choose by.
    """
    split_of = {index: case.split or "train" for index, case in enumerate(task.cases) if case.label is not None}
    for position, (split, fraction) in enumerate({"test": TEST_FRACTION, "val": VAL_FRACTION}.items()):
        wanted = split == "test" or needs_val
        if wanted and split not in split_of.values():
            pool = [index for index, name in split_of.items() if name == "train"]
            chosen = _draw(task, pool, fraction, np.random.default_rng([seed, position]))
            split_of |= dict.fromkeys(chosen, split)
    names = [split_of.get(index) for index in range(len(task.cases))]
    _check(task, names, needs_val)
    labelled = [case for case in task.cases if case.label is not None]
    return Splits(tuple(names), "known" if all(case.patient for case in labelled) else "unknown")


def _draw(task: ClassificationTask, pool: Sequence[int], fraction: float, rng: np.random.Generator) -> list[int]:
    """Draw a share of the patients of every class; at least one, and never the last."""
    by_class: dict[int, list[list[int]]] = defaultdict(list)
    for unit in _units(task, pool):
        by_class[_commonest(task, unit)].append(unit)
    chosen: list[int] = []
    for label in sorted(by_class):
        units = by_class[label]
        num_drawn = min(len(units) - 1, max(1, round(fraction * len(units))))
        chosen += [index for unit in rng.permutation(len(units))[:num_drawn] for index in units[unit]]
    return chosen


def _commonest(task: ClassificationTask, unit: Sequence[int]) -> int:
    counts = Counter(label for index in unit if (label := task.cases[index].label) is not None)
    return max(counts, key=lambda label: (counts[label], label))


def _units(task: ClassificationTask, pool: Sequence[int]) -> list[list[int]]:
    """Group cases by patient, a case of unknown patient alone; in the order of names."""
    names = task.names
    units: dict[str, list[int]] = defaultdict(list)
    for index in sorted(pool, key=lambda index: names[index]):
        units[task.cases[index].patient or f"case {names[index]}"].append(index)
    return list(units.values())


def _check(task: ClassificationTask, splits: Sequence[str | None], needs_val: bool) -> None:
    require_training_cases(task, [index for index, split in enumerate(splits) if split == "train"], task.name)
    if "test" not in splits:
        raise DataError("too few cases: none is left to test on", where=task.name, fix="give two cases a class or more")
    if needs_val:
        present = {case.label for case, split in zip(task.cases, splits, strict=True) if split == "val"}
        absent = [repr(name) for number, name in enumerate(task.classes) if number not in present]
        if absent:
            fix = "give it three cases or more, or take the protocol knn, which chooses nothing"
            raise DataError(f"no validation case of class {', '.join(absent)}", where=task.name, fix=fix)
