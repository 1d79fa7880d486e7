"""What is decided before a network learns to segment: the network, what of it rests, its optimiser, its windows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from scanlore.adaptation.segmentation_settings import LinearDecoderSettings, TransferSettings
from scanlore.adaptation.transfer import build_segmenter_network, is_untrained, resting, sgd_of
from scanlore.backbones.linear_decoder import LinearDecoder
from scanlore.errors import ConfigError, ModelError
from scanlore.modelfolder.model import Model
from scanlore.modelfolder.segmentation_preprocessing import SegmentationPreprocessing
from scanlore.registry import BACKBONES
from scanlore.scans.failures import counted
from scanlore.tasks.labelled_index import LabelledStore
from scanlore.tasks.patch_size import check_patch, patch_for
from scanlore.tasks.segmentation import SegmentationTask
from scanlore.training.optim_settings import AdamWSettings, OptimSettings
from scanlore.views.affine_settings import PatchSettings

Protocol = TransferSettings | LinearDecoderSettings


@dataclass(frozen=True)
class SegmentationPlan:
    """Everything a fit needs besides its data.

    Attributes:
        settings: With every `auto` decided.
        network: Logits of windows.
        architecture: What rebuilds it, see `scanlore.modelfolder.segmenter`.
        preprocessing: From scan to windows.
        rests: Share of the run for which a parameter rests, by its name.
        optim: The optimiser.
    """

    settings: Protocol
    network: nn.Module
    architecture: dict[str, Any]
    preprocessing: SegmentationPreprocessing
    rests: Callable[[str], float]
    optim: OptimSettings


def check_model(model: Model, task: SegmentationTask, settings: Protocol, ndim: int) -> Protocol:
    """Refuse a model the protocol cannot use on a task, and decide what the settings leave open.

    Args:
        model: Any model.
        task: With its channels.
        settings: Of the protocol.
        ndim: Spatial axes of the task's scans.

    Returns:
        The settings; `patch: auto` alone stays, until the shapes of all scans are known.

    Raises:
        ModelError: The model cannot be used.
        ConfigError: The network cannot divide the patch.
    """
    facts = model.preprocessing
    if facts.ndim != ndim:
        what = f"the model sees {facts.ndim}D views, the task {task.name!r} has {ndim}D scans"
        raise ModelError(what, where=model.name, fix=f"take a model for {ndim}D scans")
    name = model.facts.get("architecture", {}).get("name", "")
    capabilities = BACKBONES[name].capabilities if name in BACKBONES else ()
    if isinstance(settings, TransferSettings) and "decoder" not in capabilities:
        usable = [other for other, entry in BACKBONES.items() if "decoder" in entry.capabilities]
        fix = f"it can use {', '.join(usable)}; linear-decoder takes any backbone"
        what = f"protocol transfer needs a network with a decoder of its own, which {name or 'this model'} lacks"
        raise ModelError(what, where=model.name, fix=fix)
    if not capabilities:
        raise ModelError(f"protocol {settings.protocol} cannot use it", where=model.name, fix="take a backbone")
    views = _resolved_views(settings.views, model)
    if views.patch != "auto":
        check_patch(views.patch, _backbone_of(model).patch_size, _backbone_of(model).min_size)
        if len(views.patch) != ndim:
            what = f"{list(views.patch)} has {len(views.patch)} edges, the scans have {ndim} axes"
            raise ConfigError(what, where="views.patch")
    settings = settings.model_copy(update={"views": views})
    return settings.resolved(is_untrained(model)) if isinstance(settings, TransferSettings) else settings


def _resolved_views(views: PatchSettings, model: Model) -> PatchSettings:
    """Take the model's own intensity scaling and spacing where the settings do not say otherwise."""
    facts = model.preprocessing
    update: dict[str, Any] = {"ndim": facts.ndim}
    if "scaling" not in views.model_fields_set:
        update |= {"scaling": facts.scaling, "window": facts.window}
    if views.spacing == "auto":
        update["spacing"] = None if facts.spacing is None else (facts.spacing,) * facts.ndim
    return views.model_copy(update=update)


def plan_segmentation(
    model: Model, task: SegmentationTask, store: LabelledStore, settings: Protocol, seed: int
) -> SegmentationPlan:
    """Decide everything about a fit.

    Args:
        model: That `check_model` let pass.
        task: The task.
        store: Of the training cases.
        settings: As `check_model` returned them.
        seed: Of the weights that start afresh.

    Raises:
        ModelError: The model's channels cannot meet those of the task.
    """
    views, backbone = settings.views, _backbone_of(model)
    if views.patch == "auto":
        spacing = None if isinstance(views.spacing, str) else views.spacing
        limits = backbone.patch_size, _largest_patch(model), backbone.min_size
        patch = patch_for(store.shapes, store.spacings, spacing, *limits)
        settings = settings.model_copy(update={"views": views.model_copy(update={"patch": patch})})
    num_channels, num_classes = len(task.channels), len(task.labels)
    network: nn.Module
    optim: OptimSettings
    if isinstance(settings, TransferSettings):
        network = build_segmenter_network(model, num_channels, num_classes, settings, seed)
        architecture = {"backbone": network.settings.model_dump(mode="json"), "decoder": "unet"}
        rests, optim = resting(settings, num_channels != backbone.in_channels), sgd_of(settings)
    else:
        network = _linear_decoder(model, num_channels, num_classes, settings, seed)
        decoder = {"linear": settings.last_layers}
        architecture = {"backbone": backbone.settings.model_dump(mode="json"), "decoder": decoder}
        rests, optim = _never, _adamw_of(settings)
    return SegmentationPlan(settings, network, architecture, _preprocessing(task, settings), rests, optim)


def _largest_patch(model: Model) -> int:
    """Return the longest edge a network is meant for: the same for an untrained U-Net as for a pretrained one."""
    entry = BACKBONES[model.facts["architecture"]["name"]]
    return model.preprocessing.input_size if "tokens" in entry.capabilities else entry.input_size


def _backbone_of(model: Model) -> Any:
    return model.backbone


def _never(name: str) -> float:
    del name
    return 0.0


def _linear_decoder(
    model: Model, num_channels: int, num_classes: int, settings: LinearDecoderSettings, seed: int
) -> LinearDecoder:
    if num_channels != _backbone_of(model).in_channels:
        seen = counted(_backbone_of(model).in_channels, "channel")
        what = f"the frozen model sees {seen}, the task has {num_channels}"
        raise ModelError(what, where=model.name, fix="the protocol transfer can spread a stem over several channels")
    if model.preprocessing.mean is not None:
        what = "the frozen model expects colours with a normalisation of their own, which patches do not get"
        raise ModelError(what, where=model.name, fix="continue it first with start.channels=grey")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return LinearDecoder(_backbone_of(model), num_classes, settings.last_layers)


def _adamw_of(settings: LinearDecoderSettings) -> AdamWSettings:
    return AdamWSettings(
        lr=settings.lr,
        lr_rule="none",
        min_lr=0.0,
        warmup=settings.warmup,
        weight_decay=(settings.weight_decay, settings.weight_decay),
        layer_decay=1.0,
        patch_embed_lr=1.0,
        clip=settings.clip,
    )


def _preprocessing(task: SegmentationTask, settings: Protocol) -> SegmentationPreprocessing:
    views = settings.views
    value_of = {number: value for value, number in task.class_of_value.items()}
    return SegmentationPreprocessing.model_validate(
        {
            "ndim": views.ndim,
            "in_channels": len(task.channels),
            "channels": task.channels,
            "patch": views.patch,
            "spacing": views.spacing,
            "scaling": views.scaling,
            "window": views.window,
            "outside": views.outside,
            "labels": {value_of[number]: task.labels[number] for number in sorted(task.labels)},
        }
    )
