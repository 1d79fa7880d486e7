"""A folder of predicted masks beside the labelled cases of a task: which file is of which case, and what it says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from scanlore.errors import DataError, ScanloreError
from scanlore.evaluation.score_segmentation import MaskPair, MissingPair
from scanlore.scans.failures import reason_of
from scanlore.tasks.label_map import listed, parse_label_map
from scanlore.tasks.labelled_case import read_case, read_mask
from scanlore.tasks.segmentation import SegmentationCase, SegmentationTask
from scanlore.tasks.segmentation_folders import read_json
from scanlore.tasks.segmentation_records import EXTENSIONS, case_stem

LABELS_JSON = "labels.json"
NO_PREDICTION = "no prediction"


def find_masks(folder: Path, cases: Sequence[SegmentationCase]) -> dict[str, Path]:
    """Find the predicted mask of each case: the file called like the case, or like its first image.

    Args:
        folder: Where the masks lie; not in folders inside it.
        cases: The cases to score.

    Returns:
        The file of each case that has one, by the name of the case.

    Raises:
        DataError: The folder does not exist, or holds no mask of any case.
    """
    if not folder.is_dir():
        raise DataError("is no folder of masks" if folder.exists() else "no such folder", where=folder)
    files = _mask_files(folder)
    stems = {case.name: (case.name, case_stem(case.images[0], is_channel=False)) for case in cases}
    found = {name: files[stem] for name, both in stems.items() for stem in both[::-1] if stem in files}
    if not found:
        held = f"it holds {listed(sorted(file.name for file in files.values()))}" if files else "it holds no masks"
        what = f"no mask is called like a case of the task ({listed(case.name for case in cases)}); {held}"
        raise DataError(what, where=folder, fix="give the folder that `scanlore predict` wrote")
    return found


def value_classes(folder: Path, task: SegmentationTask) -> dict[int, int]:
    """Return which class of the task each value of the masks in a folder means.

    Args:
        folder: Of masks. Its `labels.json` says what the values mean; without one they mean what they mean in the
            task's own masks.
        task: The task.

    Raises:
        DataError: The masks are of other classes than the task.
    """
    path = folder / LABELS_JSON
    if not path.is_file():
        return task.class_of_value
    masks = parse_label_map(read_json(path), path)
    if masks.names != task.labels and set(masks.names.values()) != set(task.labels.values()):
        what = f"the masks are of {listed(masks.names.values())}, the task of {listed(task.labels.values())}"
        raise DataError(what, where=path, fix="evaluate them on a task with the same classes")
    number_of = {name: number for number, name in task.labels.items()}
    return {value: number_of[masks.names[number]] for value, number in masks.index_of.items() if number in masks.names}


def mask_pairs(
    cases: Sequence[SegmentationCase],
    task: SegmentationTask,
    masks: Mapping[str, Path],
    class_of_value: Mapping[int, int],
) -> Iterator[MaskPair | MissingPair]:
    """Yield each case with its prediction, read when asked for; one that cannot be compared says why.

    Args:
        cases: The cases to score.
        task: Their task.
        masks: What `find_masks` found.
        class_of_value: What `value_classes` said.
    """
    for case in cases:
        try:
            yield _pair(case, task, masks, class_of_value)
        except ScanloreError as error:
            yield MissingPair(case.name, case.patient, reason_of(error))


def _pair(
    case: SegmentationCase, task: SegmentationTask, masks: Mapping[str, Path], class_of_value: Mapping[int, int]
) -> MaskPair:
    if case.name not in masks:
        raise DataError(NO_PREDICTION)
    truth = read_case(case, task)
    if truth.mask is None:
        raise DataError("no reference mask")
    prediction = read_mask(masks[case.name], truth.scan, class_of_value)
    return MaskPair(case.name, case.patient, truth.mask, prediction, truth.scan.spacing)


def _mask_files(folder: Path) -> dict[str, Path]:
    """Return the files that may be masks by their stem; of several formats the first of `EXTENSIONS`."""
    files: dict[str, Path] = {}
    for extension in reversed(EXTENSIONS):
        for file in sorted(folder.iterdir()):
            if file.name.lower().endswith(extension) and not file.name.startswith(".") and file.is_file():
                files[case_stem(file, is_channel=False)] = file
    return files
