"""Training a segmenter on labelled patches, exactly resumable."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from scanlore.adaptation.segmentation_method import SegmentationMethod
from scanlore.adaptation.segmentation_plan import SegmentationPlan
from scanlore.errors import DataError
from scanlore.methods.contract import Method
from scanlore.modelfolder.folder import fill, read_tensors, write_tensors
from scanlore.modelfolder.segmenter import Segmenter
from scanlore.run import write_atomically
from scanlore.tasks.labelled_index import LabelledStore
from scanlore.training.loop import Callbacks, Look, LoopPlan, Row, train
from scanlore.training.parallel import World, default_workers
from scanlore.views.patches import LabelledPlan, labelled_batches, to_device_labelled

BEST = "best.safetensors"
SCORE = "best.json"


@dataclass(frozen=True)
class SegmentationFit:
    """A trained segmenter.

    Attributes:
        segmenter: On its device, in evaluation mode, with the weights the selection kept.
        chosen: What the selection kept, and why.
    """

    segmenter: Segmenter
    chosen: dict[str, Any]


def fit_segmentation(
    plan: SegmentationPlan,
    store: LabelledStore,
    out: Path,
    *,
    seed: int,
    device: str,
    ignore: int | None = None,
    validate: Callable[[Segmenter], float] | None = None,
    progress: Callable[[Row, Row], None] = lambda values, timings: None,
) -> SegmentationFit:
    """Train the network of a plan, from the newest checkpoint in `out` where there is one.

    Args:
        plan: Network, optimiser, patches.
        store: Of the training cases.
        out: The run folder.
        seed: Of the batches.
        device: Where to train.
        ignore: Label of voxels that count nowhere.
        validate: Mean Dice of the validation cases; asked every `val_every` steps and before the best is chosen.
        progress: Called after every step with the rows of metrics and timings.
    """
    world = World(0, 1, torch.device(device))
    training = plan.settings.training
    method = SegmentationMethod(plan.network.to(world.device), plan.rests, ignore)
    segmenter = Segmenter(method.network, plan.preprocessing)
    views, asked = plan.settings.views, training.num_workers
    batches = LabelledPlan(store, views, training.batch_size // training.passes, seed)
    workers = default_workers(world) if asked == "auto" else asked
    callbacks = Callbacks(
        lambda first, stop: labelled_batches(batches, first, stop, workers),
        lambda batch: to_device_labelled(batch, world.device),
        _looker(segmenter, plan, out, validate),
        progress,
    )
    # A fit that was stopped is no segmenter: a signal ends the process here, and the checkpoint before counts
    loop = LoopPlan(training, plan.optim, seed, plan.settings.val_every or training.steps, stop_margin=None)
    train(method, loop, out, world, callbacks)
    return _select(segmenter, plan, out)


def _looker(
    segmenter: Segmenter, plan: SegmentationPlan, out: Path, validate: Callable[[Segmenter], float] | None
) -> Look | None:
    if validate is None or not plan.settings.val_every:
        return None

    def look(method: Method, network: nn.Module, values: Row) -> Row:
        del network
        segmenter.eval()
        score = validate(segmenter)
        method.as_module().train()
        if plan.settings.selection == "best-val":
            _keep_if_best(segmenter.network, out, values["step"], score)
        return {"val_dice": score}

    return look


def _keep_if_best(network: nn.Module, out: Path, step: int, score: float) -> None:
    """Keep the weights of the best score so far; of a repeated step the outcome is the same."""
    path = out / SCORE
    best = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"val_dice": float("-inf")}
    if score > best["val_dice"]:
        write_tensors(out / BEST, network)
        write_atomically(path, json.dumps({"step": step, "val_dice": score}))


def _select(segmenter: Segmenter, plan: SegmentationPlan, out: Path) -> SegmentationFit:
    chosen: dict[str, Any] = {"step": plan.settings.training.steps}
    if plan.settings.selection == "best-val":
        if not (out / SCORE).is_file():
            fix = "give more validation cases, or take selection: last"
            raise DataError("no validation case ever had a Dice value", where=out, fix=fix)
        chosen = json.loads((out / SCORE).read_text(encoding="utf-8"))
        fill(segmenter.network, read_tensors(out / BEST), out / BEST)
    return SegmentationFit(segmenter.eval(), chosen)
