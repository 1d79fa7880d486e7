"""What a task itself says of its cases: patients, which become pseudonyms, and splits, which must hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from scanlore.errors import DataError


class GivenCase(Protocol):
    """A case of any task."""

    @property
    def patient(self) -> str | None:
        """A pseudonym, the same for all cases of one patient; `None` where unknown."""

    @property
    def split(self) -> str | None:
        """`train`, `val`, `test`, or `None` where not given."""


def pseudonyms(patients: Sequence[str | None]) -> list[str | None]:
    """Number the patients, so that no identity from a table reaches a result."""
    numbers = {patient: number for number, patient in enumerate(sorted({patient for patient in patients if patient}))}
    return [None if patient is None else f"patient-{numbers[patient]:05d}" for patient in patients]


def refuse_duplicates(names: Sequence[str], path: Path) -> None:
    """Refuse names that are listed twice.

    Raises:
        DataError: With the first of them.
    """
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        some = f"{repeated[0]!r} is" if len(repeated) == 1 else f"{len(repeated)} images are"
        e_g = "" if len(repeated) == 1 else f", e.g. {repeated[0]}"
        raise DataError(f"{some} listed more than once{e_g}", where=path)


def check_given_splits(cases: Sequence[GivenCase], labelled: Sequence[GivenCase], path: Path) -> bool:
    """Return whether the task gives splits, and refuse those that cannot hold.

    Args:
        cases: All cases.
        labelled: Those with a target.
        path: The task, for the message.

    Raises:
        DataError: Some labelled cases have a split and others none, or a patient is in more than one split.
    """
    without = sum(case.split is None for case in labelled)
    if without == len(labelled):
        return False
    if without:
        fix = "give every labelled row its split, or none"
        raise DataError(f"{without} labelled cases have no split while others have", where=path, fix=fix)
    pairs = {(case.patient, case.split) for case in cases if case.patient and case.split}
    shared = [patient for patient, count in Counter(patient for patient, _ in pairs).items() if count > 1]
    if shared:
        fix = "keep all cases of a patient in one split"
        raise DataError(f"{len(shared)} patients are in more than one split", where=path, fix=fix)
    return True
