"""Settings of optimisers and their schedules; torch-free. Shares are of the whole run."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, Tag, model_validator

from scanlore.config import Settings, by_key
from scanlore.methods.schedules import Progress, cosine, poly, ramps, warmup_then_cosine


class AdamWSettings(Settings):
    """AdamW, a warm-up, and what follows it.

    With `schedule: constant`, `warmup_steps`, and equal values for start and end, nothing depends on how long the run
    is: a longer one does the same first steps (DINOv3, section 3.2).

    Attributes:
        name: Of the optimiser.
        lr: Base learning rate.
        lr_rule: `sqrt-1024` multiplies it by sqrt(batch size / 1024); `none` takes it as it is.
        min_lr: At the end of the cosine.
        warmup: Share of the run in which the learning rate rises linearly from zero.
        warmup_steps: Steps in which it does, in place of the share.
        schedule: What follows the warm-up: half a cosine, `(1 - x)^0.9` (nnU-Net), or the same rate to the end.
        weight_decay: At the start and the end, cosine between.
        betas: Of AdamW.
        layer_decay: Factor on the learning rate per layer below the top.
        patch_embed_lr: Further factor for the patch embedding.
        clip: Largest gradient norm of each part of the network.
    """

    name: Literal["adamw"] = "adamw"
    lr: float = Field(2e-3, gt=0)
    lr_rule: Literal["sqrt-1024", "none"] = "sqrt-1024"
    min_lr: float = Field(1e-6, ge=0)
    warmup: float = Field(0.1, ge=0, le=1)
    warmup_steps: int | None = Field(None, ge=0)
    schedule: Literal["cosine", "poly", "constant"] = "cosine"
    weight_decay: tuple[float, float] = (0.04, 0.4)
    betas: tuple[float, float] = (0.9, 0.999)
    layer_decay: float = Field(0.9, gt=0, le=1)
    patch_embed_lr: float = Field(0.2, ge=0)
    clip: float = Field(3.0, gt=0)

    def peak_lr(self, batch_size: int) -> float:
        """Return the learning rate after warm-up for a global batch size."""
        return self.lr * (batch_size / 1024) ** 0.5 if self.lr_rule == "sqrt-1024" else self.lr

    def warmup_share(self, num_steps: int) -> float:
        """Return the share of a run of `num_steps` that the warm-up takes, 0 to 1."""
        return self.warmup if self.warmup_steps is None else min(1.0, self.warmup_steps / num_steps)

    def lr_at(self, progress: Progress, batch_size: int) -> float:
        """Return the learning rate of the top layer at a point of the run."""
        peak = self.peak_lr(batch_size)
        if self.schedule == "constant":
            return peak * progress.ramp(self.warmup, self.warmup_steps)
        warmup = self.warmup_share(progress.num_steps)
        if self.schedule == "poly":
            return peak * ramps((warmup,), progress.share, poly)
        return warmup_then_cosine(peak, self.min_lr, warmup, progress.share)

    def decay_at(self, progress: Progress) -> float:
        """Return the weight decay at a point of the run."""
        return cosine(*self.weight_decay, progress.share)


class SgdSettings(Settings):
    """SGD with Nesterov momentum and nnU-Net's polynomial schedule.

    Attributes:
        name: Of the optimiser.
        lr: Peak learning rate.
        momentum: Of Nesterov's method.
        weight_decay: On all parameters alike.
        warmups: Shares of the warm-ups, one after the other: in each the learning rate rises linearly from zero.
        power: The learning rate falls as `(1 - x)^power` over what is left of the run.
        clip: Largest gradient norm.
    """

    name: Literal["sgd"] = "sgd"
    lr: float = Field(1e-2, gt=0)
    momentum: float = Field(0.99, gt=0, lt=1)
    weight_decay: float = Field(3e-5, ge=0)
    warmups: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = ()
    power: float = Field(0.9, gt=0)
    clip: float = Field(12.0, gt=0)

    @model_validator(mode="after")
    def _leave_time(self) -> SgdSettings:
        if sum(self.warmups) >= 1:
            msg = f"warmups {list(self.warmups)} leave nothing of the run to train in"
            raise ValueError(msg)
        return self

    def lr_at(self, progress: Progress, batch_size: int) -> float:
        """Return the learning rate at a point of the run, whatever the batch size."""
        del batch_size
        return self.lr * ramps(self.warmups, progress.share, lambda rest: poly(rest, self.power))

    def decay_at(self, progress: Progress) -> float:
        """Return the weight decay, which is constant."""
        del progress
        return self.weight_decay


OptimSettings = Annotated[
    Annotated[AdamWSettings, Tag("adamw")] | Annotated[SgdSettings, Tag("sgd")], by_key("name", "adamw")
]
