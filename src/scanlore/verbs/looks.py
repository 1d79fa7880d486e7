"""What pretraining looks at on its way: embeddings of corpus scans, and kNN accuracy on labelled ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scanlore.adaptation.knn import fit_knn
from scanlore.adaptation.settings import KnnSettings
from scanlore.corpus.index import StoredScans
from scanlore.evaluation.metrics import accuracy
from scanlore.inference.extract import extract
from scanlore.methods.contract import Method
from scanlore.modelfolder.model import Model
from scanlore.modelfolder.preprocessing import Preprocessing
from scanlore.modelfolder.reference import preprocessing_of
from scanlore.scans.intensity import linear_map
from scanlore.tasks.classification import ClassificationTask, load_classification_task
from scanlore.tasks.splits import complete_splits
from scanlore.training.health import health
from scanlore.training.settings import PretrainSettings
from scanlore.views.sampler import sample
from scanlore.views.view import View, box_map, compose, slice_map

BATCH_SIZE = 16


class Looks:
    """Whole-scan views of a fixed set of scans, read once, and what the network makes of them.

    Args:
        settings: Of the run.
        scans: Of the corpus; evenly spaced ones are looked at.
        device: Of the network.

    Raises:
        DataError: The labelled folder is no task.
    """

    def __init__(self, settings: PretrainSettings, scans: StoredScans, device: torch.device) -> None:
        self.preprocessing = preprocessing_of(settings.views.model_dump(mode="json"), settings.embedding)
        self.device = device
        chosen = np.linspace(0, len(scans) - 1, min(len(scans), settings.health.scans)).round().astype(int)
        self.views = torch.stack([whole_view(scans, int(index), self.preprocessing) for index in np.unique(chosen)])
        labelled = settings.health.labelled
        self.task = None if labelled is None else load_classification_task(Path(labelled))

    def __call__(self, method: Method) -> dict[str, Any]:
        """Return health and, where there are labels, `knn_accuracy`."""
        model = Model("this run", method.exported(), self.preprocessing)
        values: dict[str, Any] = dict(health(self._embed(model)))
        if self.task is not None:
            values["knn_accuracy"] = knn_accuracy(model, self.task, self.device)
        return values

    @torch.inference_mode()
    def _embed(self, model: Model) -> Tensor:
        return torch.cat([model(chunk.to(self.device)).float() for chunk in self.views.split(BATCH_SIZE)])


def knn_accuracy(model: Model, task: ClassificationTask, device: torch.device) -> float:
    """Return the accuracy of 20 nearest neighbours on the task's test split.

    Args:
        model: On `device`.
        task: A labelled folder or table.
        device: Of the model.
    """
    splits = complete_splits(task, seed=0, needs_val=False)
    rows = {split: [i for i in splits.indices(split) if task.cases[i].label is not None] for split in ("train", "test")}
    tables = {
        split: extract(model, [task.cases[i].image for i in rows[split]], device=str(device), max_bad=0.0)
        for split in rows
    }
    labels = {split: np.array([task.cases[i].label for i in rows[split]]) for split in rows}
    fitted = fit_knn(KnnSettings(), tables["train"], labels["train"])
    return float(accuracy(labels["test"], fitted.predict(tables["test"])))


def whole_view(scans: StoredScans, index: int, preprocessing: Preprocessing) -> Tensor:
    """Return the whole stored scan as one view `(1, *spatial)`; the middle slice of a volume for 2D models."""
    entry = scans.entry(index)
    size = (preprocessing.input_size,) * preprocessing.ndim
    shape = list(entry.shape)
    if preprocessing.ndim == len(shape):
        matrix = box_map(np.zeros(len(shape)), shape, size)
    else:
        axis = entry.through_axis if entry.through_axis is not None else len(shape) - 1
        plane = [edge for other, edge in enumerate(shape) if other != axis]
        matrix = compose(slice_map(axis, shape[axis] // 2), box_map(np.zeros(2), plane, size))
    scaling = linear_map(preprocessing.scaling, entry.stats, preprocessing.window)
    return sample(scans.pyramid(index), View(matrix, size), scaling, "evaluation")[None]
