"""The optimiser, its groups, and what is set before every step."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from scanlore.methods.contract import ParamRule, Progress
from scanlore.training.optim_settings import AdamWSettings, OptimSettings


def build_optimizer(module: nn.Module, rules: list[ParamRule], settings: OptimSettings) -> torch.optim.Optimizer:
    """Build the optimiser; parameters under the same rule share a group.

    Args:
        module: The method.
        rules: One for every trainable parameter of it.
        settings: Of the optimiser.
    """
    parameters = dict(module.named_parameters())
    groups: dict[tuple[Any, ...], list[Tensor]] = {}
    for rule in rules:
        rest = (rule.frozen_share, rule.frozen_steps, rule.ramp_share)
        groups.setdefault((_lr_scale(rule, settings), rule.decay, *rest), []).append(parameters[rule.name])
    keys = ("lr_scale", "decay", "frozen_share", "frozen_steps", "ramp_share")
    options = [{"params": params, **dict(zip(keys, group, strict=True))} for group, params in groups.items()]
    if isinstance(settings, AdamWSettings):
        return torch.optim.AdamW(options, lr=0.0, betas=settings.betas, weight_decay=0.0, fused=True)
    return torch.optim.SGD(options, lr=0.0, momentum=settings.momentum, nesterov=True, fused=True)


def _lr_scale(rule: ParamRule, settings: OptimSettings) -> float:
    if not isinstance(settings, AdamWSettings):
        return 1.0
    return settings.layer_decay**rule.layers_above * (settings.patch_embed_lr if rule.is_patch_embed else 1.0)


def set_schedules(
    optimizer: torch.optim.Optimizer, settings: OptimSettings, batch_size: int, progress: Progress
) -> dict[str, float]:
    """Set learning rate and weight decay of every group for the coming step.

    Returns:
        `lr` (of the top layer) and `weight_decay`.
    """
    lr, decay = settings.lr_at(progress, batch_size), settings.decay_at(progress)
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_scale"] * _awake(group, progress)
        group["weight_decay"] = decay if group["decay"] else 0.0
    return {"lr": lr, "weight_decay": decay}


def _awake(group: dict[str, Any], progress: Progress) -> float:
    """Return the factor of a group's rest on its learning rate: 0 while it is frozen, 1 behind its ramp."""
    if progress.share < group["frozen_share"] or progress.step < group["frozen_steps"]:
        return 0.0
    ramp = float(group["ramp_share"])
    return min(1.0, (progress.share - group["frozen_share"]) / ramp) if ramp else 1.0


def clip_parts(module: nn.Module, rules: list[ParamRule], clip: float) -> dict[str, Tensor]:
    """Clip the gradient of every part on its own and return the norms before clipping."""
    parameters = dict(module.named_parameters())
    parts: dict[str, list[Tensor]] = {}
    for rule in rules:
        parts.setdefault(rule.part, []).append(parameters[rule.name])
    return {part: nn.utils.clip_grad_norm_(params, clip) for part, params in parts.items()}
