"""Building a method by name."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import torch
from torch import nn

from scanlore.config import Settings
from scanlore.methods.contract import Method
from scanlore.registry import METHODS


def build_method(backbone: nn.Module, settings: Settings, seed: int) -> Method:
    """Build a method around a backbone.

    Args:
        backbone: With fresh or loaded weights.
        settings: Of the method; their `name` finds it in the registry.
        seed: Of the initial weights of its heads.
    """
    named: Any = settings
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        method: Method = import_module(METHODS[named.name].module).build(backbone, settings)
    return method
