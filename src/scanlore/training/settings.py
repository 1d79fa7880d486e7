"""Settings of a pretraining run; torch-free, so that a wrong key is answered at once."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from scanlore.backbones.settings import ViTSettings
from scanlore.config import Settings
from scanlore.methods.dino.settings import DinoSettings
from scanlore.registry import unusable_reason
from scanlore.views.settings import MultiCropSettings


class DataSettings(Settings):
    """Which scans of the corpus are used.

    Attributes:
        slices_above: Volumes must have more slices than this along every axis.
    """

    slices_above: int = Field(24, ge=0)


class OptimSettings(Settings):
    """AdamW and its schedules. Shares are of the whole run.

    Attributes:
        lr: Base learning rate.
        lr_rule: `sqrt-1024` multiplies it by sqrt(batch size / 1024); `none` takes it as it is.
        min_lr: At the end of the cosine.
        warmup: Share of the run in which the learning rate rises linearly from zero.
        weight_decay: At the start and the end, cosine between.
        betas: Of AdamW.
        layer_decay: Factor on the learning rate per layer below the top.
        patch_embed_lr: Further factor for the patch embedding.
        clip: Largest gradient norm of each part of the network.
    """

    lr: float = Field(2e-3, gt=0)
    lr_rule: Literal["sqrt-1024", "none"] = "sqrt-1024"
    min_lr: float = Field(1e-6, ge=0)
    warmup: float = Field(0.1, ge=0, le=1)
    weight_decay: tuple[float, float] = (0.04, 0.4)
    betas: tuple[float, float] = (0.9, 0.999)
    layer_decay: float = Field(0.9, gt=0, le=1)
    patch_embed_lr: float = Field(0.2, ge=0)
    clip: float = Field(3.0, gt=0)

    def peak_lr(self, batch_size: int) -> float:
        """Return the learning rate after warm-up for a global batch size."""
        return self.lr * (batch_size / 1024) ** 0.5 if self.lr_rule == "sqrt-1024" else self.lr


class TrainingSettings(Settings):
    """The loop.

    Attributes:
        steps: Optimiser steps.
        batch_size: Scans per optimiser step, over all devices and accumulated passes.
        accumulate: Passes per optimiser step.
        precision: `bf16` computes in bfloat16 where the device is fast at it; `auto` decides.
        num_workers: Loader processes per device, which change nothing in the result; `auto` leaves one core to the
            training.
        checkpoint_every: Steps between checkpoints.
        keep_checkpoints: Newest checkpoints that are kept.
        max_bad_steps: Steps in a row whose gradients are not finite before the run gives up.
    """

    steps: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    accumulate: int = Field(1, ge=1)
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    num_workers: int | Literal["auto"] = "auto"
    checkpoint_every: int = Field(100, ge=1)
    keep_checkpoints: int = Field(2, ge=1)
    max_bad_steps: int = Field(10, ge=1)


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
        views: What the network sees of them.
        backbone: The network.
        method: The objective.
        optim: The optimiser.
        training: The loop.
        health: What is looked at on the way.
        embedding: What represents a scan for those who use the model: [CLS], the mean patch token, or both. The image
            loss trains the first and needs large batches and many steps; the patch loss trains the second.
    """

    description: str = ""
    source: str = ""
    seed: int = Field(0, ge=0)
    data: DataSettings = DataSettings()
    views: MultiCropSettings = MultiCropSettings()
    backbone: ViTSettings
    method: DinoSettings = DinoSettings()
    optim: OptimSettings = OptimSettings()
    training: TrainingSettings
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
        for kind in ("global_crops", "local_crops"):
            size, patch = getattr(self.views, kind).size, self.backbone.patch_size
            if size % patch:
                msg = f"views.{kind}.size {size} is no multiple of backbone.patch_size {patch}"
                raise ValueError(msg)
        if self.training.batch_size % self.training.accumulate:
            msg = f"training.batch_size {self.training.batch_size} is no multiple of training.accumulate"
            raise ValueError(msg)
        return self
