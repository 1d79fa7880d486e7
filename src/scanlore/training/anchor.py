"""A pull towards the weights a run started from."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from scanlore.methods.collectives import local_shards
from scanlore.methods.contract import ParamRule

BACKBONE = "backbone"


class Anchor:
    """Pulls the backbone towards its weights at the start of the run, behind every step of the optimiser.

    L2-SP (Li et al. 2018, eq. 3), decoupled from the gradient as AdamW decouples weight decay: each parameter moves by
    `lr * strength` of its way back.

    Args:
        module: The method, with the weights the run starts from.
        rules: Of its parameters; those of the backbone are pulled.
        strength: Of the pull; 0 never pulls.
    """

    def __init__(self, module: nn.Module, rules: list[ParamRule], strength: float) -> None:
        self.strength = strength
        names = {rule.name for rule in rules if rule.part == BACKBONE or rule.name.startswith(f"{BACKBONE}.")}
        chosen = names if strength else set()
        self.pulled = {name: p for name, p in module.named_parameters() if name in chosen}
        self.start: dict[str, Tensor] = {name: p.detach().clone() for name, p in self.pulled.items()}

    @torch.no_grad()
    def pull(self, optimizer: torch.optim.Optimizer) -> None:
        """Pull once, with the learning rate of each parameter's group."""
        rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
        by_rate: dict[float, list[str]] = {}
        for name, parameter in self.pulled.items():
            by_rate.setdefault(rates[id(parameter)], []).append(name)
        for rate, names in by_rate.items():
            moved = local_shards(self.pulled[name] for name in names)
            torch._foreach_lerp_(moved, local_shards(self.start[name] for name in names), rate * self.strength)
