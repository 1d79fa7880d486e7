"""Where a run stands, and schedules as pure functions of it; torch-free."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """Where a run stands.

    Attributes:
        step: Optimiser steps done.
        num_steps: Of the whole run.
    """

    step: int
    num_steps: int

    @property
    def share(self) -> float:
        """Share of the run that is done, 0 to 1."""
        return self.step / max(1, self.num_steps)

    def ramp(self, share: float, steps: int | None = None) -> float:
        """Return how much of a first phase is done, 0 to 1.

        Args:
            share: Length of the phase as a share of the run.
            steps: Its length in steps in place of that, the same however long the run is.
        """
        done, length = (self.share, share) if steps is None else (self.step, steps)
        return 1.0 if done >= length else done / length


def cosine(start: float, end: float, share: float) -> float:
    """Return a half cosine from `start` to `end`."""
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * min(max(share, 0.0), 1.0)))


def linear_then_constant(start: float, end: float, warmup: float, share: float) -> float:
    """Return a line from `start` to `end` over the share `warmup`, then `end`."""
    return end if share >= warmup else start + (end - start) * share / warmup


def warmup_then_cosine(peak: float, end: float, warmup: float, share: float) -> float:
    """Return a line from zero to `peak` over the share `warmup`, then a half cosine to `end`."""
    if share < warmup:
        return peak * share / warmup
    return cosine(peak, end, (share - warmup) / max(1e-12, 1 - warmup))


def poly(share: float, power: float = 0.9) -> float:
    """Return `(1 - share)^power`, the fall of nnU-Net's learning rate from 1 to 0."""
    return float((1 - min(max(share, 0.0), 1.0)) ** power)


def ramps(warmups: Sequence[float], share: float, then: Callable[[float], float]) -> float:
    """Return a line from 0 to 1 over each of the shares `warmups`, one after the other, then `then` over the rest.

    Args:
        warmups: Shares of the run; their sum is below 1.
        share: Of the run that is done.
        then: Takes the share of the rest that is done.
    """
    for warmup in warmups:
        if share < warmup:
            return share / warmup
        share -= warmup
    return then(share / (1 - sum(warmups)))
