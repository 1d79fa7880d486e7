"""Classification tasks: images, each of one class."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scanlore.corpus.cells import TABLES
from scanlore.errors import DataError
from scanlore.scans.find import Source
from scanlore.tasks.given import check_given_splits, pseudonyms, refuse_duplicates
from scanlore.tasks.layouts import Record, read_folders, read_table

MAX_NUMERIC_CLASSES = 50


@dataclass(frozen=True)
class Case:
    """One image with its target.

    Attributes:
        image: The image file, or the folder of a DICOM series.
        label: Index of its class; `None` for a case that is predicted but not scored.
        patient: A pseudonym, the same for all cases of one patient; `None` where unknown.
        split: `train`, `val`, `test`, or `None` where not given.
        source: Its files where they are known already; one of several series in a folder needs them.
    """

    image: Path
    label: int | None
    patient: str | None
    split: str | None
    source: Source | None = None

    @property
    def scan(self) -> Source | Path:
        """What `read_scan` takes."""
        return self.source or self.image


@dataclass(frozen=True)
class ClassificationTask:
    """Labelled images of one classification problem.

    Attributes:
        name: The name of its folder or table.
        root: The folder its images are named from.
        classes: Class names, sorted; labels index them.
        cases: The images.
    """

    name: str
    root: Path
    classes: tuple[str, ...]
    cases: tuple[Case, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The name of each case: its image's path relative to `root`, absolute where it lies elsewhere."""
        return tuple(_name(case, self.root) for case in self.cases)

    def fingerprint(self) -> str:
        """Return a hash of names, labels, patients and given splits; the order of cases does not matter."""
        labels = ["" if case.label is None else self.classes[case.label] for case in self.cases]
        rows = [
            "\t".join((name, label, case.patient or "", case.split or ""))
            for name, label, case in zip(self.names, labels, self.cases, strict=True)
        ]
        return hashlib.sha256("\n".join(sorted(rows)).encode()).hexdigest()[:16]


def load_classification_task(path: Path) -> ClassificationTask:
    """Read a classification task from a folder per class or from a table.

    Args:
        path: A folder `<class>/*` or `{train,val,test}/<class>/*`, or a CSV, TSV or Parquet table with the columns
            image, label and optionally patient and split. Rows without label are predicted, not scored.

    Raises:
        DataError: The files say no classification task, or one whose classes cannot be learned.
    """
    records = _read(path)
    labels = [record.label for record in records if record.label is not None]
    _refuse_numbers(labels, path)
    classes = tuple(sorted(set(labels)))
    if len(classes) < 2:
        found = f"one class only, {classes[0]!r}" if classes else "no labels"
        raise DataError(f"holds {found}", where=path, fix="a classification task needs two classes or more")
    patients = pseudonyms([record.patient for record in records])
    index = {name: number for number, name in enumerate(classes)}
    cases = tuple(
        Case(record.image, index.get(record.label or ""), patient, record.split, record.source)
        for record, patient in zip(records, patients, strict=True)
    )
    task = ClassificationTask(path.stem, path if path.is_dir() else path.parent, classes, cases)
    refuse_duplicates(task.names, path)
    if check_given_splits(cases, [case for case in cases if case.label is not None], path):
        require_training_cases(task, [index for index, case in enumerate(cases) if case.split == "train"], path)
    return task


def require_training_cases(task: ClassificationTask, train: Sequence[int], where: object) -> None:
    """Refuse a task with a class that no training case has.

    Args:
        task: The task.
        train: Indices of the training cases.
        where: What to name in the message.

    Raises:
        DataError: With the names of the classes concerned.
    """
    present = {task.cases[index].label for index in train}
    absent = [repr(name) for number, name in enumerate(task.classes) if number not in present]
    if absent:
        raise DataError(
            f"no training case of class {', '.join(absent)}", where=where, fix="add cases or drop the class"
        )


def _read(path: Path) -> list[Record]:
    if path.is_dir():
        return read_folders(path)
    if not path.exists():
        raise DataError("does not exist", where=path)
    if path.suffix.lower() not in TABLES:
        fix = f"give a folder with one folder per class, or a table ({', '.join(TABLES)})"
        raise DataError("is no task", where=path, fix=fix)
    return read_table(path)


def _refuse_numbers(labels: Sequence[str], path: Path) -> None:
    """Refuse measurements: numbers none of which is whole, or almost as many of them as cases."""
    try:
        numbers = {float(label) for label in labels}
    except ValueError:
        return
    if not numbers:
        return
    is_whole = [number.is_integer() for number in numbers]
    many = len(numbers) > 2 and 2 * len(numbers) > len(labels)
    if many or not any(is_whole) or (len(numbers) > MAX_NUMERIC_CLASSES and not all(is_whole)):
        what = f"labels look like continuous values ({len(numbers)} different numbers in {len(labels)} cases)"
        fix = "classification needs classes: bin the values and name the bins in words"
        raise DataError(what, where=path, fix=fix)


def _name(case: Case, root: Path) -> str:
    name = (case.image.relative_to(root) if case.image.is_relative_to(root) else case.image).as_posix()
    return f"{name}#{case.source.number}" if case.source and case.source.number > 1 else name
