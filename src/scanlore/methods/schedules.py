"""Schedules as pure functions of the share of the run that is done, 0 to 1."""

from __future__ import annotations

import math


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
