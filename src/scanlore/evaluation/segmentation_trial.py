"""One segmentation trial: test scans predicted once by a finished segmenter, their masks written and scored."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from scanlore.adaptation.segmentation_settings import InferenceSettings
from scanlore.backbones.device import Precision
from scanlore.errors import ScanloreError
from scanlore.evaluation.score_segmentation import MaskPair, MissingPair, class_means, score_segmentation
from scanlore.evaluation.segmentation_metrics import Agreement, dice, scored_classes
from scanlore.inference.predict_scan import predict_scan
from scanlore.inference.read_ahead import read_ahead
from scanlore.inference.write_mask import write_label_names, write_mask
from scanlore.modelfolder.segmenter import Segmenter
from scanlore.tasks.labelled_case import LabelledScan, read_case, scan_ids
from scanlore.tasks.segmentation import SegmentationCase, SegmentationTask

Row = dict[str, Any]
MASKS = "predictions"


@dataclass
class SegmentationTrial:
    """What a trial leaves.

    Attributes:
        predictions: Rows of the `predictions` table.
        results: Rows of the `results` table.
        ids: Content ids of the test scans, to tell whether pretraining saw them.
        problems: Reason of each test case that could not be used.
    """

    predictions: list[Row] = field(default_factory=list)
    results: list[Row] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Predictor:
    """How scans of a task are predicted.

    Attributes:
        segmenter: On `device`.
        task: Says what the values of masks mean.
        settings: Windows and mirroring.
        device: Where to.
        precision: Of the forward pass.
    """

    segmenter: Segmenter
    task: SegmentationTask
    settings: InferenceSettings
    device: str
    precision: Precision

    def __call__(self, labelled: LabelledScan) -> npt.NDArray[np.integer[Any]]:
        """Return the mask of a scan in the task's own values."""
        return predict_scan(
            self.segmenter,
            labelled.scan,
            overlap=self.settings.overlap,
            mirror=self.settings.mirror,
            batch_size=self.settings.batch_size,
            device=self.device,
            precision=self.precision,
        )

    def classes(self, values: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.integer[Any]]:
        """Return class numbers for the values of a mask."""
        known = self.task.class_of_value
        lookup = np.zeros(max(known) + 1, np.int16)
        lookup[list(known)] = list(known.values())
        classes: npt.NDArray[np.integer[Any]] = lookup[values]
        return classes


def run_segmentation_trial(
    trial: str,
    predictor: Predictor,
    cases: Sequence[SegmentationCase],
    out: Path,
    seed: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> SegmentationTrial:
    """Predict the test cases, write their masks below `out`, and score them.

    Args:
        trial: Identity of the trial.
        predictor: Of the finished segmenter.
        cases: The test cases, each with a mask.
        out: The run folder.
        seed: Of the resampling.
        progress: Called with the number of cases done and in all.
    """
    done = SegmentationTrial()
    (out / MASKS).mkdir(parents=True, exist_ok=True)
    write_label_names(out / MASKS, predictor.segmenter.preprocessing.labels)
    pairs = _pairs(trial, predictor, cases, out, done, progress)
    task = predictor.task
    done.results = score_segmentation(trial, pairs, task.labels, ignore=task.ignore, seed=seed)
    return done


def _pairs(
    trial: str,
    predictor: Predictor,
    cases: Sequence[SegmentationCase],
    out: Path,
    done: SegmentationTrial,
    progress: Callable[[int, int], None],
) -> Iterator[MaskPair | MissingPair]:
    read = read_ahead(lambda case: read_case(case, predictor.task), cases, window=2)
    for number, (case, labelled) in enumerate(zip(cases, read, strict=True), start=1):
        row: Row = {"trial": trial, "case": case.name, "patient": case.patient, "split": "test"}
        row["classes"] = list(predictor.task.classes)
        if isinstance(labelled, ScanloreError):
            done.problems[case.name] = labelled.what
            done.predictions.append(row)
            yield MissingPair(case.name, case.patient, f"not read: {labelled.what}")
        else:
            done.ids += scan_ids(labelled.scan)
            mask = predictor(labelled)
            path = write_mask(out / MASKS / case.name, mask, labelled.scan)
            done.predictions.append(row | {"mask": path.relative_to(out).as_posix()})
            assert labelled.mask is not None
            yield MaskPair(case.name, case.patient, labelled.mask, predictor.classes(mask), labelled.scan.spacing)
        progress(number, len(cases))


def mean_dice(predictor: Predictor, cases: Sequence[SegmentationCase]) -> float:
    """Return the mean over cases of the mean Dice over classes, on validation cases; unreadable ones are left out."""
    task, means = predictor.task, []
    for labelled in read_ahead(lambda case: read_case(case, task), cases, window=2):
        if isinstance(labelled, ScanloreError) or labelled.mask is None:
            continue
        means.append(_mean_dice(labelled.mask, predictor.classes(predictor(labelled)), task))
    known = np.array(means)[np.isfinite(means)]
    return float(known.mean()) if len(known) else float("nan")


def _mean_dice(
    reference: npt.NDArray[np.integer[Any]], found: npt.NDArray[np.integer[Any]], task: SegmentationTask
) -> float:
    """Return the mean Dice of the classes that are there or were found; surfaces would cost far more than all else."""
    known = np.ones(reference.shape, np.bool_) if task.ignore is None else reference != task.ignore
    values, no_surface = [], np.empty(0)
    for number in scored_classes(task.labels, task.ignore):
        one, two = (reference == number) & known, (found == number) & known
        both = int(np.count_nonzero(one & two))
        sizes = int(np.count_nonzero(one)), int(np.count_nonzero(two))
        values.append(dice(Agreement(*sizes, both, no_surface, no_surface)))
    return float(class_means(np.array([values]))[0])
