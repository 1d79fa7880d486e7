"""Settings of the DINO method; torch-free."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from scanlore.config import Settings


class HeadSettings(Settings):
    """A projection head.

    Attributes:
        prototypes: Output width.
        bottleneck: Width before the prototypes.
        hidden: Width of the hidden layers.
        layers: Linear layers before the prototypes.
    """

    prototypes: int = Field(65536, ge=2)
    bottleneck: int = Field(256, ge=1)
    hidden: int = Field(2048, ge=1)
    layers: int = Field(3, ge=1)


class GramSettings(Settings):
    """Gram anchoring (DINOv3, section 4): keeps patch features as sharp as those of an earlier teacher.

    It needs `views.gram_size`, the size at which that teacher sees the global crops.

    Attributes:
        weight: Of the term.
        teacher: `start` is the teacher this run starts from; `ema` is replaced by the running teacher on the way.
        refresh: Share of the run between replacements.
        max_updates: Replacements at most.
    """

    weight: float = Field(2.0, gt=0)
    teacher: Literal["start", "ema"] = "start"
    refresh: float = Field(0.1, gt=0, le=1)
    max_updates: int = Field(3, ge=1)

    def is_refreshed(self, done: int, num_steps: int) -> bool:
        """Return whether the Gram teacher is replaced once `done` of `num_steps` steps are done."""
        interval = max(1, round(self.refresh * num_steps))
        return self.teacher == "ema" and done % interval == 0 and 1 <= done // interval <= self.max_updates


class DinoSettings(Settings):
    """DINOv2's objective: image loss, patch loss, KoLeo.

    Shares are of the whole run, so that a shorter run keeps the shape of its schedules.

    Attributes:
        name: Of the method.
        head: Head of the image loss, and of the patch loss where it is separate.
        separate_head: Whether the patch loss has a head of its own.
        image_weight: Weight of the image loss (DINO).
        patch_weight: Weight of the patch loss (iBOT).
        koleo_weight: Weight of the KoLeo regulariser, summed over the two global views.
        koleo: Where it looks for the nearest neighbour of a scan: among the scans of its own process, or of all.
        gram: Gram anchoring; none by default.
        centering: How teacher outputs become targets.
        center_momentum: Of the running centre of `softmax` centring.
        sinkhorn_iterations: Of Sinkhorn-Knopp.
        student_temp: Temperature of the student.
        teacher_temp: Temperature of the teacher at the start and after its warm-up.
        teacher_temp_warmup: Share of the run in which it rises linearly.
        teacher_temp_warmup_steps: Steps in which it does, in place of the share.
        momentum: Of the teacher's moving average at the start and the end, cosine between.
        freeze_last_layer: Share of the run in which the prototypes do not learn.
        freeze_last_layer_steps: Steps in which they do not, in place of the share.
    """

    name: Literal["dino"] = "dino"
    head: HeadSettings = HeadSettings()
    separate_head: bool = True
    image_weight: float = Field(1.0, ge=0)
    patch_weight: float = Field(1.0, ge=0)
    koleo_weight: float = Field(0.1, ge=0)
    koleo: Literal["local", "gathered"] = "local"
    gram: GramSettings | None = None
    centering: Literal["sinkhorn", "softmax"] = "sinkhorn"
    center_momentum: float = Field(0.9, ge=0, le=1)
    sinkhorn_iterations: int = Field(3, ge=1)
    student_temp: float = Field(0.1, gt=0)
    teacher_temp: tuple[float, float] = (0.04, 0.07)
    teacher_temp_warmup: float = Field(0.3, ge=0, le=1)
    teacher_temp_warmup_steps: int | None = Field(None, ge=0)
    momentum: tuple[float, float] = (0.992, 1.0)
    freeze_last_layer: float = Field(0.01, ge=0, le=1)
    freeze_last_layer_steps: int | None = Field(None, ge=0)
