"""The state of a run as named tensors: the method, the optimiser by parameter name, and the anchor."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from scanlore.backbones.unique import unique_state
from scanlore.modelfolder.checkpoint_reader import METHOD
from scanlore.training.checkpoint import stored_like

OPTIMIZER, ANCHOR = "optimizer.", "anchor."


def named_state(module: nn.Module, optimizer: torch.optim.Optimizer, anchor: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return all tensors of a run, sharing their memory; one name for each."""
    state = {METHOD + name: tensor for name, tensor in unique_state(module).items()}
    for name, parameter in module.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, Tensor):
                state[f"{OPTIMIZER}{key}.{name}"] = value
    return state | {ANCHOR + name: tensor for name, tensor in anchor.items()}


def make_room(module: nn.Module, optimizer: torch.optim.Optimizer, folder: Path) -> None:
    """Give the optimiser the tensors that a checkpoint has for it, still empty: a new one has none.

    What belongs to no parameter is left, and then refused as being of another network.
    """
    parameters = dict(module.named_parameters())
    for full_name, (shape, dtype) in stored_like(folder, OPTIMIZER).items():
        key, name = full_name.removeprefix(OPTIMIZER).split(".", 1)
        parameter = parameters.get(name)
        if parameter is None:
            continue
        is_alike = tuple(parameter.shape) == shape
        empty = torch.empty(shape, dtype=dtype, device=parameter.device)
        optimizer.state[parameter][key] = torch.empty_like(parameter, dtype=dtype).detach() if is_alike else empty
