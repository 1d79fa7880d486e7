"""Folders with a `dataset.json`: the Medical Segmentation Decathlon and nnU-Net v2."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

from scanlore.errors import DataError
from scanlore.tasks.label_map import listed, parse_label_map
from scanlore.tasks.segmentation_records import EXTENSIONS, Fold, Found, Record

logger = logging.getLogger("scanlore")
DATASET_JSON = "dataset.json"


def read_dataset_folder(root: Path) -> Found:
    """Read a folder in the layout of the Medical Segmentation Decathlon or of nnU-Net v2.

    Raises:
        DataError: There is no `dataset.json`, it is damaged, or files it names are missing.
    """
    path = root / DATASET_JSON
    if not path.is_file():
        raise DataError(f"has no {DATASET_JSON}", where=root, fix="copy it from where the dataset came from")
    facts = _read_object(path)
    if "file_ending" in facts or "channel_names" in facts:
        return _read_nnunet(root, facts, path)
    if "training" in facts:
        return _read_msd(root, facts, path)
    what = "names neither training cases (Medical Segmentation Decathlon) nor a file_ending (nnU-Net v2)"
    raise DataError(what, where=path)


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        DataError: It cannot be read or is no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise DataError(f"cannot be read as JSON: {error}", where=path, fix="copy it again") from None


def _read_object(path: Path) -> dict[str, Any]:
    facts = read_json(path)
    if not isinstance(facts, dict):
        raise DataError("is no JSON object", where=path, fix="copy it again")
    return facts


def _read_msd(root: Path, facts: dict[str, Any], path: Path) -> Found:
    listing = facts["training"]
    if not isinstance(listing, list) or not all(map(_is_msd_case, listing)):
        what = "its training list is damaged"
        raise DataError(what, where=path, fix='each case is {"image": "./imagesTr/a.nii.gz", "label": ...}')
    records = [Record((root / case["image"],), root / case["label"]) for case in listing]
    _refuse_missing(records, root)
    return Found(records, parse_label_map(facts.get("labels"), path), _channels(facts, "modality", path))


def _is_msd_case(case: object) -> bool:
    return isinstance(case, dict) and all(isinstance(case.get(key), str) for key in ("image", "label"))


def _read_nnunet(root: Path, facts: dict[str, Any], path: Path) -> Found:
    ending = facts.get("file_ending")
    if not isinstance(ending, str) or ending.lower() not in EXTENSIONS:
        fix = f"one of {', '.join(EXTENSIONS)}"
        raise DataError(f"files ending in {ending!r} are none that Scanlore reads", where=path, fix=fix)
    labels = parse_label_map(facts.get("labels"), path)
    channels = _channels(facts, "channel_names", path)
    training = _nnunet_cases(root, "Tr", ending, channels)
    if training and facts.get("numTraining") not in (None, len(training)):
        logger.warning("%s: numTraining is %s, and %d cases are here", path, facts["numTraining"], len(training))
    testing = _nnunet_cases(root, "Ts", ending, channels) if (root / "labelsTs").is_dir() else {}
    _refuse_missing([*training.values(), *testing.values()], root)
    both = sorted(training.keys() & testing.keys())
    if both:
        raise DataError(f"{len(both)} cases are in imagesTr and in imagesTs: {listed(both)}", where=root)
    given = "train" if testing else None
    records = [
        Record(case.images, case.mask, None, split, name)
        for cases, split in ((training, given), (testing, "test"))
        for name, case in cases.items()
    ]
    return Found(records, labels, channels, _read_folds(root / "splits_final.json"))


def _nnunet_cases(root: Path, part: str, ending: str, channels: tuple[str, ...]) -> dict[str, Record]:
    """Return the cases of one part, of those that have an image (training) or a mask; files may be missing."""
    images, masks = root / f"images{part}", root / f"labels{part}"
    names = {name.removesuffix(ending) for name in _file_names(masks, ending)}
    # A channel's file ends in its number; unlabelled scans of imagesTs are no cases
    first = {name.removesuffix(f"_0000{ending}") for name in _file_names(images, f"_0000{ending}")}
    return {
        name: Record(
            tuple(
                images / f"{name}_{channel:04d}{ending}"
                for channel in range(_num_files(images, name, ending, channels))
            ),
            masks / f"{name}{ending}",
        )
        for name in sorted(names | first if part == "Tr" else names)
    }


def _num_files(images: Path, name: str, ending: str, channels: tuple[str, ...]) -> int:
    """Return how many files a case has: 2D colour images keep all their channels in the first."""
    is_one = ending.lower() not in (".nii", ".nii.gz") and not (images / f"{name}_0001{ending}").exists()
    return 1 if is_one else len(channels)


def _file_names(folder: Path, ending: str) -> list[str]:
    if not folder.is_dir():
        raise DataError(f"has no folder {folder.name}", where=folder.parent)
    return sorted(
        path.name for path in folder.iterdir() if path.name.endswith(ending) and not path.name.startswith(".")
    )


def _channels(facts: dict[str, Any], key: str, path: Path) -> tuple[str, ...]:
    names = facts.get(key)
    if not isinstance(names, dict) or set(names) != {str(number) for number in range(len(names))} or not names:
        raise DataError(f"its {key!r} is missing or damaged", where=path, fix=f'"{key}": {{"0": "MRI"}}')
    return tuple(str(names[str(number)]) for number in range(len(names)))


def _refuse_missing(records: list[Record], root: Path) -> None:
    files = [file for record in records for file in (*record.images, record.mask) if file is not None]
    missing = [os.path.relpath(file, root) for file in files if not file.exists()]
    if missing:
        what = f"{len(missing)} of {len(files)} files are missing: {listed(missing)}"
        raise DataError(what, where=root, fix=f"copy them again, or take their cases out of {DATASET_JSON}")


def _read_folds(path: Path) -> tuple[Fold, ...]:
    if not path.is_file():
        return ()
    folds = read_json(path)
    if not isinstance(folds, list) or not folds or not all(map(_is_fold, folds)):
        raise DataError("is no list of folds", where=path, fix='each fold is {"train": [...], "val": [...]}')
    for number, fold in enumerate(folds):
        both = sorted(set(fold["train"]) & set(fold["val"]))
        if both:
            raise DataError(f"fold {number} has cases in train and in val: {listed(both)}", where=path)
    return tuple(Fold(tuple(fold["train"]), tuple(fold["val"])) for fold in folds)


def _is_fold(fold: object) -> bool:
    return isinstance(fold, dict) and all(
        isinstance(fold.get(key), list) and fold[key] and all(isinstance(name, str) for name in fold[key])
        for key in ("train", "val")
    )
