"""What pretraining looks at on its way: embeddings of corpus scans, and kNN accuracy on labelled ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from scanlore.adaptation.knn import fit_knn
from scanlore.adaptation.settings import KnnSettings
from scanlore.corpus.index import StoredScans
from scanlore.evaluation.metrics import accuracy
from scanlore.inference.extract import extract
from scanlore.methods.contract import Method
from scanlore.methods.masked import Rebuilds
from scanlore.modelfolder.model import Model, grid_map
from scanlore.modelfolder.preprocessing import Preprocessing
from scanlore.modelfolder.reference import preprocessing_of
from scanlore.reports.reconstruction import draw_reconstruction
from scanlore.scans.intensity import linear_map
from scanlore.tasks.classification import ClassificationTask, load_classification_task
from scanlore.tasks.splits import complete_splits
from scanlore.training.health import health
from scanlore.training.settings import PretrainSettings
from scanlore.training.sharding import is_sharded
from scanlore.views.loader import LoaderPlan, make_batch, to_device
from scanlore.views.sampler import sample
from scanlore.views.view import View, compose, slice_map

BATCH_SIZE = 16


class Looks:
    """Whole-scan views of a fixed set of scans, read once, and what the network makes of them.

    Args:
        settings: Of the run.
        scans: Of the corpus; evenly spaced ones are looked at.
        device: Of the network.
        plan: Of the loader; the first batch is rebuilt where the method rebuilds views.
        out: The run folder, for pictures.

    Raises:
        DataError: The labelled folder is no task.
    """

    def __init__(
        self, settings: PretrainSettings, scans: StoredScans, device: torch.device, plan: LoaderPlan, out: Path
    ) -> None:
        self.plan, self.out, self.clips = plan, out, settings.views.clips
        self.preprocessing = preprocessing_of(settings.views.model_dump(mode="json"), settings.embedding)
        self.device = device
        chosen = np.linspace(0, len(scans) - 1, min(len(scans), settings.health.scans)).round().astype(int)
        self.views = torch.stack([whole_view(scans, int(index), self.preprocessing) for index in np.unique(chosen)])
        labelled = settings.health.labelled
        self.task = None if labelled is None else load_classification_task(Path(labelled))

    def __call__(self, method: Method, exported: nn.Module, step: int) -> dict[str, Any]:
        """Return health and, where there are labels, `knn_accuracy`; draws what the method rebuilds."""
        self._draw(method, step)
        model = Model("this run", exported, self.preprocessing)
        values: dict[str, Any] = dict(health(self._embed(model)))
        if self.task is not None:
            values["knn_accuracy"] = knn_accuracy(model, self.task, self.device)
        return values

    def _draw(self, method: Method, step: int) -> None:
        if not isinstance(method, Rebuilds) or is_sharded(method.as_module()):
            return  # one process alone cannot call a method whose weights are spread over all
        batch = to_device(make_batch(self.plan, 0), self.device, self.clips)
        draw_reconstruction(method.reconstruct(batch), self.out / "previews" / f"step_{step:08d}.png", step)

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


def whole_view(scans: StoredScans, index: int, facts: Preprocessing) -> Tensor:
    """Return the whole stored scan as one view `(1, *spatial)`; the middle slice of a volume for 2D models."""
    entry = scans.entry(index)
    shape, outer = np.array(entry.shape), None
    axes = np.arange(len(shape))
    if facts.ndim < len(shape):
        axis = entry.through_axis if entry.through_axis is not None else len(shape) - 1
        outer, axes = slice_map(axis, shape[axis] // 2), np.delete(axes, axis)
    spacing = None if entry.spacing is None else np.array(entry.spacing)[axes]
    matrix = grid_map(facts, np.zeros(len(axes), int), shape[axes], spacing)
    view = View(matrix if outer is None else compose(outer, matrix), facts.shape)
    scaling = linear_map(facts.scaling, entry.stats, facts.window)
    return sample(scans.pyramid(index), view, scaling, "evaluation", facts.outside)[None]
