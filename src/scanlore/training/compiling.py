"""Recomputing and compiling the repeated parts of a network, in place: no name in its state changes."""

from __future__ import annotations

import contextlib
from functools import partial

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from scanlore.backbones.vit_layers import Block
from scanlore.training.parallel_settings import ParallelSettings

REPEATED = ("blocks", "stages")
"""What lists of repeated parts are called: blocks of transformers, stages of CNNs."""


def repeated_parts(module: nn.Module) -> list[nn.Module]:
    """Return the parts of all lists of repeated parts, none of them within another."""
    parts: list[nn.Module] = []
    inside: set[nn.Module] = set()
    for name, child in module.named_modules():
        is_list = isinstance(child, nn.ModuleList | nn.Sequential) and name.rpartition(".")[2] in REPEATED
        if is_list and child not in inside:
            parts += [part for part in child.children() if part not in inside]
            inside.update(child.modules())
    return parts


def recompute(module: nn.Module) -> None:
    """Let every repeated part that learns keep its input alone, and compute the rest again in the backward pass.

    Chen et al. 2016. Random draws are repeated as well, so nothing changes but memory and time.
    """
    for part in repeated_parts(module):
        if any(parameter.requires_grad for parameter in part.parameters()):
            part.forward = partial(checkpoint, part.forward, use_reentrant=False)


def is_compiled(settings: ParallelSettings, device: torch.device) -> bool:
    """Return whether blocks are compiled: by default on CUDA, as it gains nothing on a CPU."""
    return settings.compile == "on" or (settings.compile == "auto" and device.type == "cuda")


def compile_blocks(module: nn.Module, backend: str = "inductor", fullgraph: bool = False) -> None:
    """Compile every transformer block on its own; all share the code of the first.

    Args:
        module: Whatever holds the blocks.
        backend: Of `torch.compile`.
        fullgraph: Whether a block that does not compile as a whole is an error.
    """
    for part in module.modules():
        if isinstance(part, Block):
            part.compile(backend=backend, fullgraph=fullgraph)


def uncompiled() -> contextlib.AbstractContextManager[object]:
    """Return a context without compiled code: what is only looked at has too many shapes to compile for each."""
    eager: contextlib.AbstractContextManager[object] = torch.compiler.set_stance("force_eager")
    return eager
