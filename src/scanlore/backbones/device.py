"""Which device a network runs on, and in which precision."""

from __future__ import annotations

import contextlib
from typing import Literal

import torch

from scanlore.errors import ConfigError

Precision = Literal["auto", "bf16", "fp32"]


def pick_device(name: str, local_rank: int = 0) -> torch.device:
    """Return the device meant by a name.

    Args:
        name: `auto` (the first GPU or the CPU), `cpu`, `cuda`, `cuda:N` or `mps`.
        local_rank: Which GPU `auto` and `cuda` mean for one of several processes.

    Raises:
        ConfigError: There is no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    with contextlib.suppress(RuntimeError, AssertionError):
        device = torch.device("cuda", local_rank) if name == "cuda" else torch.device(name)
        if device.type in ("cpu", "cuda", "mps"):
            torch.empty(0, device=device)
            return device
    raise ConfigError(f"no device {name!r} on this machine", where="device", fix="auto takes a GPU where there is one")


def resolve_precision(precision: Precision, device: torch.device) -> Precision:
    """Return `bf16` or `fp32` for `auto`: bfloat16 where the device multiplies it natively."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    return "bf16" if device.type == "cpu" and cpu_has_bf16() else "fp32"


def cpu_has_bf16() -> bool:
    """Return whether this CPU has bfloat16 multiplication."""
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported", "_is_arm_bf16_supported")
    return any(bool(getattr(torch.cpu, check, bool)()) for check in checks)


def autocast(precision: Precision, device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Return the context in which a forward pass computes in the given precision."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")
