"""What a run starts from; torch-free."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from scanlore.config import Settings


class StartSettings(Settings):
    """Weights to continue, and how that is made safe.

    Attributes:
        weights: A model reference; none starts from fresh weights.
        needed: Whether the recipe continues a model and is refused without one.
        heads: Projection heads: `auto` loads them where the model has them, `load` refuses a model without, `fresh`
            starts new ones.
        head_warmup: Share of the run in which fresh heads learn while the backbone is frozen.
        anchor: Strength of the pull of the backbone towards the weights it started from (Li et al. 2018, L2-SP).
        channels: How a network for colour images takes scans of one channel: `grey` folds its colour kernels into one.
        inflate: How a 2D network becomes one for volumes: `average` spreads its kernels over the depth, `centre` puts
            them in the middle slice.
        guard: What happens when kNN accuracy falls below that of the start: nothing, a warning, or the run's end.
        guard_margin: How far below.
        guard_patience: Looks in a row.
    """

    weights: str | None = None
    needed: bool = False
    heads: Literal["auto", "load", "fresh"] = "auto"
    head_warmup: float = Field(0.0, ge=0, lt=1)
    anchor: float = Field(0.0, ge=0)
    channels: Literal["none", "grey"] = "none"
    inflate: Literal["none", "average", "centre"] = "none"
    guard: Literal["off", "warn", "stop"] = "warn"
    guard_margin: float = Field(0.02, ge=0)
    guard_patience: int = Field(2, ge=1)
