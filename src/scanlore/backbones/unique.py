"""One name for every tensor of a network that registers the same layers more than once."""

from __future__ import annotations

from torch import Tensor, nn


def spellings(module: nn.Module) -> dict[str, list[str]]:
    """Return all names of each tensor in the state of a module, by the first of them.

    dynamic-network-architectures registers each layer as `conv` and as `all_modules.0`, and a U-Net's encoder again
    below its decoder: such twins share one tensor.
    """
    first: dict[int, str] = {}
    names: dict[str, list[str]] = {}
    for name, tensor in module.state_dict(keep_vars=True).items():
        names.setdefault(first.setdefault(id(tensor), name), []).append(name)
    return names


def unique_state(module: nn.Module) -> dict[str, Tensor]:
    """Return the state of a module with one name, the first, for each tensor; they share the module's memory."""
    state = module.state_dict()
    return {name: state[name] for name in spellings(module)}
