"""Settings of the protocols that segment; torch-free."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, model_validator

from scanlore.config import Settings
from scanlore.training.settings import TrainingSettings
from scanlore.views.affine_settings import PatchSettings


class InferenceSettings(Settings):
    """How validation and test scans are predicted.

    Attributes:
        overlap: Share of a window that overlaps with the next.
        mirror: Whether predictions are averaged over all mirrored windows.
        batch_size: Windows that pass the network at once.
    """

    overlap: float = Field(0.5, ge=0, lt=1)
    mirror: bool = True
    batch_size: int = Field(2, ge=1)


class SegmentationSettings(Settings):
    """What all protocols that segment share.

    Attributes:
        views: Patches and their augmentation; `patch: auto` is the median scan, rounded up to what the network can
            divide, at most what a network of its name is meant for (a ViT: what it was pretrained on); intensities are
            scaled as the model's own unless said here.
        training: The loop.
        selection: Which weights are kept: the `last`, or the `best-val` by mean Dice of the validation scans.
        val_every: Steps between looks at the validation scans; 0 never looks, unless the selection needs it.
        inference: How scans are predicted.
        fold: Which fold of the task's own `splits_final.json`; `None` draws splits where the task gives none.
        max_bad: Share of labelled scans that may be unusable; one always may.
    """

    views: PatchSettings = PatchSettings()
    training: TrainingSettings
    selection: Literal["last", "best-val"] = "last"
    val_every: int = Field(0, ge=0)
    inference: InferenceSettings = InferenceSettings()
    fold: int | None = Field(None, ge=0)
    max_bad: float = Field(0.01, ge=0, le=1)

    @model_validator(mode="after")
    def _can_choose(self) -> SegmentationSettings:
        if self.selection == "best-val" and not 0 < self.val_every <= self.training.steps:
            msg = (
                f"selection best-val needs val_every between 1 and training.steps {self.training.steps}, not "
                f"{self.val_every}; or take selection: last"
            )
            raise ValueError(msg)
        return self


class TransferSettings(SegmentationSettings):
    """Fine-tuning of a U-Net: the grid of S3D, Table 2, with the row it chose as default.

    Attributes:
        protocol: Always `transfer`.
        transfer: Whether the `encoder` alone or `all` weights are taken from the model; the rest starts afresh.
        train: Whether `all` weights or those of the `decoder` alone are trained.
        warmups: `none`; of the `whole` network; or of the decoder with the encoder frozen, then of the whole
            (`decoder-then-whole`). `auto` is the last for a pretrained encoder, `whole` where all is transferred or the
            encoder stays frozen, and `none` for an untrained network, as nnU-Net trains.
        warmup: Share of the run of each warm-up.
        lr: Peak learning rate; `auto` is 1e-3, and nnU-Net's 1e-2 for an untrained network, at momentum 0.99. At
            another momentum it keeps lr / (1 - momentum), the length of a step along a constant gradient.
        momentum: Of Nesterov's method.
        weight_decay: On all parameters.
        power: Of the polynomial fall of the learning rate.
        clip: Largest gradient norm.
        stem: How a stem trained on one channel meets several: `replicate` divides its weights among them, `random`
            starts afresh (S3D, Table 6).
        freeze_stem: Whether such a stem rests while the decoder warms up.
    """

    protocol: Literal["transfer"] = "transfer"
    transfer: Literal["encoder", "all"] = "encoder"
    train: Literal["all", "decoder"] = "all"
    warmups: Literal["auto", "none", "whole", "decoder-then-whole"] = "auto"
    warmup: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    lr: PositiveFloat | Literal["auto"] = "auto"
    momentum: Annotated[float, Field(gt=0, lt=1)] = 0.99
    weight_decay: float = Field(3e-5, ge=0)
    power: PositiveFloat = 0.9
    clip: PositiveFloat = 12.0
    stem: Literal["replicate", "random"] = "replicate"
    freeze_stem: bool = True

    def resolved(self, untrained: bool) -> TransferSettings:
        """Return the settings with `warmups` and `lr` decided.

        Args:
            untrained: Whether the model starts from random weights.
        """
        warmups = self.warmups
        if warmups == "auto":
            plain = self.transfer == "all" or self.train == "decoder"
            warmups = "none" if untrained else "whole" if plain else "decoder-then-whole"
        peak = 1e-2 if untrained else 1e-3
        lr = round(peak * (1 - self.momentum) / (1 - 0.99), 12) if self.lr == "auto" else self.lr
        return self.model_copy(update={"warmups": warmups, "lr": lr})


class LinearDecoderSettings(SegmentationSettings):
    """A linear decoder on a frozen backbone (3DINO, "Linear decoder segmentation").

    Attributes:
        protocol: Always `linear-decoder`.
        last_layers: How many last layers of a ViT are concatenated; a CNN gives its whole pyramid.
        lr: Peak learning rate of AdamW.
        weight_decay: Of AdamW.
        warmup: Share of the run in which the learning rate rises; half a cosine to zero follows.
        clip: Largest gradient norm.
    """

    protocol: Literal["linear-decoder"] = "linear-decoder"
    last_layers: int = Field(4, ge=1)
    lr: PositiveFloat = 1e-3
    weight_decay: float = Field(0.01, ge=0)
    warmup: float = Field(0.1, ge=0, lt=1)
    clip: PositiveFloat = 3.0
