"""Segmentation tasks: scans, each with a mask that gives every voxel one class."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from scanlore.corpus.cells import TABLES, column_names
from scanlore.errors import ConfigError, DataError
from scanlore.tasks.given import check_given_splits, pseudonyms, refuse_duplicates
from scanlore.tasks.label_map import listed
from scanlore.tasks.segmentation_folders import DATASET_JSON, read_dataset_folder
from scanlore.tasks.segmentation_records import Fold, Found, Record, case_stem
from scanlore.tasks.segmentation_table import read_segmentation_table


@dataclass(frozen=True)
class SegmentationCase:
    """One scan with its mask.

    Attributes:
        name: Unique in its task: the stem of its file, without a channel's number.
        images: One file per channel, or one file with all channels.
        mask: The file with the classes; `None` for a case that is predicted but not scored.
        patient: A pseudonym, the same for all cases of one patient; `None` where unknown.
        split: `train`, `val`, `test`, or `None` where not given.
    """

    name: str
    images: tuple[Path, ...]
    mask: Path | None
    patient: str | None = None
    split: str | None = None


@dataclass(frozen=True)
class SegmentationTask:
    """Scans with masks of one segmentation problem.

    Attributes:
        name: The name of its folder or table.
        cases: The scans, by name.
        labels: Class number to name, consecutive from 0, the background.
        channels: Name of each channel.
        ignore: Class number of voxels that no loss and no score looks at; `None` without any.
        folds: nnU-Net's `splits_final.json`, where there is one.
        index_of: Value stored in the masks to class number; `None` where they are the same.
    """

    name: str
    cases: tuple[SegmentationCase, ...]
    labels: dict[int, str]
    channels: tuple[str, ...]
    ignore: int | None = None
    folds: tuple[Fold, ...] | None = None
    index_of: dict[int, int] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The name of each case."""
        return tuple(case.name for case in self.cases)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes without the background, in the order of their numbers."""
        return tuple(self.labels[number] for number in sorted(self.labels) if number > 0)

    @property
    def class_of_value(self) -> dict[int, int]:
        """Value stored in the masks to class number, `ignore` among them."""
        if self.index_of is not None:
            return self.index_of
        return {number: number for number in (*self.labels, *(() if self.ignore is None else (self.ignore,)))}

    def fingerprint(self) -> str:
        """Return a hash of label map, channels, names, masks, patients and given splits, in any order of the cases.

        Raises:
            DataError: A mask can no longer be read.
        """
        rows = [
            "\t".join((case.name, case.patient or "", case.split or "", _mask_hash(case.mask))) for case in self.cases
        ]
        facts = (sorted(self.labels.items()), self.channels, self.ignore, sorted(self.class_of_value.items()))
        return hashlib.sha256("\n".join([repr(facts), *sorted(rows)]).encode()).hexdigest()[:16]


def load_segmentation_task(path: Path) -> SegmentationTask:
    """Read a segmentation task.

    Args:
        path: One of

            - a folder of the Medical Segmentation Decathlon (`dataset.json` lists the training cases),
            - a folder of nnU-Net v2 (`dataset.json`, `imagesTr`, `labelsTr`; cases of `imagesTs` with a mask in
              `labelsTs` are the test set), with its `splits_final.json` where there is one,
            - a CSV, TSV or Parquet table with the columns image (or one column `image_NAME` per channel), mask and
              optionally patient and split. Label names stand in a `labels.json` beside it; without one, the values
              found in the masks are named `label 1`, `label 2` ... Rows without mask are predicted, not scored.

    Raises:
        DataError: The files say no segmentation task, or some of them are missing.
    """
    found = _read(path)
    if not found.records:
        raise DataError("holds no cases", where=path)
    names = _names(found.records)
    patients = pseudonyms([record.patient for record in found.records])
    cases = tuple(
        SegmentationCase(name, record.images, record.mask, patient, record.split)
        for name, record, patient in zip(names, found.records, patients, strict=True)
    )
    refuse_duplicates(names, path)
    labelled = [case for case in cases if case.mask is not None]
    if check_given_splits(cases, labelled, path) and all(case.split != "train" for case in labelled):
        raise DataError("has no training case", where=path)
    _check_folds(found.folds, names, path)
    labels, folder = found.labels, path.parent if path.name == DATASET_JSON else path
    return SegmentationTask(
        name=folder.resolve().name if folder.is_dir() else path.stem,
        cases=tuple(sorted(cases, key=lambda case: case.name)),
        labels=labels.names,
        channels=found.channels,
        ignore=labels.ignore,
        folds=found.folds or None,
        index_of=labels.index_of,
    )


def is_segmentation_task(path: Path) -> bool:
    """Return whether a path looks like a segmentation task; reads no more than the header of a table."""
    if path.name == DATASET_JSON or (
        path.is_dir() and ((path / DATASET_JSON).exists() or (path / "imagesTr").is_dir())
    ):
        return True
    return path.is_file() and path.suffix.lower() in TABLES and "mask" in column_names(path)


def with_fold(task: SegmentationTask, fold: int) -> SegmentationTask:
    """Return the task of one fold of `splits_final.json`: its `val` cases are the test set, its `train` cases train.

    nnU-Net reports what it reaches on `val`, so this is what nothing may be chosen by; validation cases are drawn from
    the training cases instead. Cases that the fold does not name, such as those of `imagesTs`, are left out.

    Args:
        task: With folds.
        fold: Its number, from 0.

    Raises:
        ConfigError: The task has no folds, or not this one.
    """
    if task.folds is None:
        raise ConfigError(f"fold {fold} was asked for, and the task has no splits_final.json", where=task.name)
    if not 0 <= fold < len(task.folds):
        raise ConfigError(f"there is no fold {fold}", where=task.name, fix=f"folds are 0 to {len(task.folds) - 1}")
    split_of = dict.fromkeys(task.folds[fold].train, "train") | dict.fromkeys(task.folds[fold].test, "test")
    cases = tuple(replace(case, split=split_of[case.name]) for case in task.cases if case.name in split_of)
    return replace(task, cases=cases)


def _read(path: Path) -> Found:
    if path.name == DATASET_JSON:
        return read_dataset_folder(path.parent)
    if path.is_dir():
        return read_dataset_folder(path)
    if not path.exists():
        raise DataError("does not exist", where=path)
    if path.suffix.lower() not in TABLES:
        fix = f"give a folder with a {DATASET_JSON}, or a table ({', '.join(TABLES)})"
        raise DataError("is no task", where=path, fix=fix)
    return read_segmentation_table(path)


def _names(records: list[Record]) -> list[str]:
    """Name cases by the stem of their file, and where that is not enough by their folders as well."""
    stems = [record.name or case_stem(record.images[0], len(record.images) > 1) for record in records]
    repeated = {name for name, count in Counter(stems).items() if count > 1}
    folders = [record.images[0].parent.absolute() for record in records]
    shared = os.path.commonpath(folders)
    return [
        "_".join((*folder.relative_to(shared).parts, stem)) if stem in repeated else stem
        for folder, stem in zip(folders, stems, strict=True)
    ]


def _check_folds(folds: tuple[Fold, ...], names: list[str], path: Path) -> None:
    strangers = sorted({name for fold in folds for name in (*fold.train, *fold.test)} - set(names))
    if strangers:
        what = f"splits_final.json names {len(strangers)} cases that are not here: {listed(strangers)}"
        raise DataError(what, where=path)


def _mask_hash(mask: Path | None) -> str:
    if mask is None:
        return ""
    try:
        facts = mask.stat()
        return _file_hash(mask, facts.st_size, facts.st_mtime_ns)
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=mask) from None


@lru_cache(maxsize=1 << 14)
def _file_hash(path: Path, size: int, mtime_ns: int) -> str:
    """Return the hash of a file's bytes; it is asked for often, and the file's size and time say when it changed."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()[:32]
