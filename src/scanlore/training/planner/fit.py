"""The largest pass that fits a device, and what to change where none does."""

from __future__ import annotations

from pathlib import Path

import torch

from scanlore.errors import ConfigError
from scanlore.training.planner.estimate import Estimate, estimate
from scanlore.training.settings import PretrainSettings

SHARE = 0.9
"""Of the free memory, that a run may be estimated to need."""


def memory_limit(device: torch.device) -> int:
    """Return how many bytes a run may be estimated to need on a device: nine tenths of what is free now."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0] * SHARE)
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    return int(min(free, _container_limit()) * SHARE)


def _container_limit() -> int:
    """Return the bytes that a container still allows, very many where it has no limit."""
    folder = Path("/sys/fs/cgroup")
    try:
        limit, used = ((folder / f"memory.{name}").read_text().strip() for name in ("max", "current"))
    except OSError:
        return 1 << 62
    return 1 << 62 if limit == "max" else int(limit) - int(used)


def fit(
    settings: PretrainSettings, device: torch.device, world_size: int = 1, limit: int | None = None
) -> tuple[int, int]:
    """Choose the fewest passes per step whose estimated memory fits.

    Args:
        settings: Of the run; its own `accumulate` is not heeded.
        device: What it runs on.
        world_size: Number of processes.
        limit: Bytes that fit; nine tenths of what is free by default.

    Returns:
        Scans of a pass on each device, and passes per optimiser step.

    Raises:
        ConfigError: Not even one scan a pass fits.
    """
    limit = memory_limit(device) if limit is None else limit
    share = settings.training.batch_size // world_size
    choices = [passes for passes in range(1, share + 1) if share % passes == 0]
    first, last = 0, len(choices)
    while first < last:  # memory falls with every further pass
        middle = (first + last) // 2
        found = estimate(_with_passes(settings, choices[middle]), device, world_size)
        if found.peak <= limit:
            last = middle
        else:
            first = middle + 1
    if first == len(choices):
        raise _too_large(settings, estimate(_with_passes(settings, share), device, world_size), limit)
    return share // choices[first], choices[first]


def check_fits(settings: PretrainSettings, found: Estimate, limit: int) -> None:
    """Refuse a run that is estimated not to fit.

    Args:
        settings: Of the run.
        found: Its estimate.
        limit: Bytes that fit, from `memory_limit`.

    Raises:
        ConfigError: It does not; says what to change.
    """
    if found.peak > limit:
        raise _too_large(settings, found, limit)


def _with_passes(settings: PretrainSettings, passes: int) -> PretrainSettings:
    return settings.model_copy(update={"training": settings.training.model_copy(update={"accumulate": passes})})


def _too_large(settings: PretrainSettings, found: Estimate, limit: int) -> ConfigError:
    scans = "1 scan" if found.scans_per_pass == 1 else f"{found.scans_per_pass} scans"
    what = f"{scans} a pass needs about {found.peak / 1e9:.1f} GB of memory, and {limit / 1e9:.1f} GB are free"
    if found.scans_per_pass > 1:
        return ConfigError(what, fix="training.accumulate=auto takes passes that fit")
    changes = []
    if found.activations > found.peak / 2:
        if settings.parallel.activation_checkpointing == "none":
            changes.append("parallel.activation_checkpointing=full")
        changes.append("smaller views")
    if settings.parallel.sharding == "none":
        changes.append("parallel.sharding=fsdp on several devices")
    return ConfigError(what, fix=f"{', '.join(changes)}, or a smaller backbone than {settings.backbone.name}")
