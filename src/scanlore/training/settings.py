"""Settings of a pretraining run; torch-free, so that a wrong key is answered at once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from scanlore.backbones.settings import BackboneSettings, ViTSettings
from scanlore.config import Settings
from scanlore.methods.settings import DinoSettings, MethodSettings
from scanlore.modelfolder.start_settings import StartSettings
from scanlore.registry import unusable_reason
from scanlore.training.optim_settings import AdamWSettings, OptimSettings
from scanlore.training.parallel_settings import ParallelSettings
from scanlore.views.settings import AffineSettings, MultiCropSettings, ViewSettings


class DataSettings(Settings):
    """Which scans of the corpus are used.

    Attributes:
        slices_above: Volumes must have more slices than this along every axis.
        split: A part of the corpus, as `scanlore corpus split` names it; all by default.
        hold_out: A labelled folder or table whose test scans are left out, wherever they lie in the corpus.
        hold_out_fold: Of its `splits_final.json`, as `fold` of the protocol that will be scored.
    """

    slices_above: int = Field(24, ge=0)
    split: str | None = None
    hold_out: Path | None = None
    hold_out_fold: int | None = Field(None, ge=0)


class TrainingSettings(Settings):
    """The loop.

    Attributes:
        steps: Optimiser steps.
        batch_size: Scans per optimiser step, over all devices and accumulated passes.
        accumulate: Passes per optimiser step; `auto` takes the fewest whose estimated memory fits the device.
        precision: `bf16` computes in bfloat16 where the device is fast at it; `auto` decides.
        num_workers: Loader processes per device, which change nothing in the result; `auto` leaves one core to the
            training.
        checkpoint_every: Steps between checkpoints.
        keep_checkpoints: Newest checkpoints that are kept.
        export_at: Steps whose model is kept as `exports/step_N`, for curves over the length of pretraining.
        max_bad_steps: Steps in a row whose gradients are not finite before the run gives up.
    """

    steps: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    accumulate: Annotated[int, Field(ge=1)] | Literal["auto"] = 1
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    num_workers: int | Literal["auto"] = "auto"
    checkpoint_every: int = Field(100, ge=1)
    keep_checkpoints: int = Field(2, ge=1)
    export_at: tuple[Annotated[int, Field(ge=1)], ...] = ()
    max_bad_steps: int = Field(10, ge=1)

    @property
    def passes(self) -> int:
        """Passes per optimiser step, once `auto` is resolved."""
        return 1 if self.accumulate == "auto" else self.accumulate

    @model_validator(mode="after")
    def _exports_lie_within(self) -> TrainingSettings:
        late = [step for step in self.export_at if step > self.steps]
        if late:
            msg = f"export_at {late[0]} lies behind the last step {self.steps}"
            raise ValueError(msg)
        return self


class HealthSettings(Settings):
    """What is looked at while training.

    Attributes:
        every: Steps between looks; 0 never looks.
        scans: Scans of the corpus whose embeddings are judged.
        labelled: A labelled folder or table for kNN accuracy, or nothing.
    """

    every: int = Field(100, ge=0)
    scans: int = Field(128, ge=2)
    labelled: Path | None = None


class PretrainSettings(Settings):
    """All settings of `scanlore pretrain`: what a recipe holds.

    Attributes:
        description: What the recipe is for.
        source: Where its values come from.
        seed: Of everything random.
        data: Which scans.
        start: What the run starts from.
        views: What the network sees of them.
        backbone: The network.
        method: The objective.
        optim: The optimiser.
        training: The loop.
        parallel: How it is spread over devices.
        health: What is looked at on the way.
        embedding: What represents a scan for those who use the model: [CLS], the mean patch token, or both. The image
            loss trains the first and needs large batches and many steps; the patch loss trains the second.
    """

    description: str = ""
    source: str = ""
    seed: int = Field(0, ge=0)
    data: DataSettings = DataSettings()
    start: StartSettings = StartSettings()
    views: ViewSettings = MultiCropSettings()
    backbone: BackboneSettings
    method: MethodSettings = DinoSettings()
    optim: OptimSettings = AdamWSettings()
    training: TrainingSettings
    parallel: ParallelSettings = ParallelSettings()
    health: HealthSettings = HealthSettings()
    embedding: Literal["cls", "mean", "cls+mean"] = "cls"

    @model_validator(mode="after")
    def _agree(self) -> PretrainSettings:
        reason = unusable_reason(self.method.name, self.backbone.name)
        if reason:
            raise ValueError(reason)
        if self.views.ndim != self.backbone.ndim:
            msg = f"views.ndim {self.views.ndim} and backbone.ndim {self.backbone.ndim} differ"
            raise ValueError(msg)
        reason = _views_reason(self.views, self.backbone, self.method)
        if reason:
            raise ValueError(reason)
        if self.start.channels == "grey" and self.views.scaling == "zscore":
            msg = "start.channels grey folds a normalisation of values in [-1, 1]; views.scaling zscore has no range"
            raise ValueError(msg)
        warmup_steps = self.optim.warmup_steps if isinstance(self.optim, AdamWSettings) else None
        if warmup_steps is not None and warmup_steps > self.training.steps:
            msg = f"optim.warmup_steps {warmup_steps} is more than training.steps {self.training.steps}"
            raise ValueError(msg)
        if self.start.head_warmup and not isinstance(self.method, DinoSettings):
            msg = f"start.head_warmup is for heads, and method {self.method.name!r} has none"
            raise ValueError(msg)
        if self.training.batch_size % self.training.passes:
            msg = f"training.batch_size {self.training.batch_size} is no multiple of training.accumulate"
            raise ValueError(msg)
        return self


def _views_reason(views: ViewSettings, backbone: BackboneSettings, method: MethodSettings) -> str | None:
    """Return why views do not fit backbone and method, `None` when they do."""
    if isinstance(views, MultiCropSettings) != isinstance(method, DinoSettings):
        wanted = "multi-crop" if isinstance(method, DinoSettings) else "affine"
        return f"method {method.name!r} needs views.policy: {wanted}, not {views.policy}"
    if isinstance(views, AffineSettings):
        return _masks_reason(views, backbone)
    for key, size in views.crop_sizes().items():
        if size % backbone.patch_size:
            return f"{key} {size} is no multiple of backbone.patch_size {backbone.patch_size}"
    has_gram_views = any(one.gram_size is not None for one in views.each_resolution())
    if isinstance(method, DinoSettings) and (method.gram is not None) != has_gram_views:
        return "method.gram and views.gram_size belong together: one anchors what the other shows"
    return None


def _masks_reason(views: AffineSettings, backbone: BackboneSettings) -> str | None:
    stride, masks = backbone.patch_size, views.masks
    if masks is None:
        return "views.masks is missing: what is hidden is what the method rebuilds"
    if any(edge % stride for edge in views.shape):
        size = "x".join(str(edge) for edge in views.shape)
        return f"views.size {size} is no multiple of {stride}, by which backbone {backbone.name!r} divides a view"
    if isinstance(backbone, ViTSettings) and masks.block != stride:
        return f"views.masks.block {masks.block} must be backbone.patch_size {stride}: a ViT leaves out whole patches"
    if isinstance(backbone, ViTSettings) and masks.ratio[0] != masks.ratio[1]:
        return "views.masks.ratio needs two equal numbers for a ViT: it keeps as many patches of every view"
    return None
