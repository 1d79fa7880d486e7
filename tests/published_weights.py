"""State dicts with the names and shapes of published files, with random values."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

SIZES = {"s": (384, 12), "b": (768, 12), "l": (1024, 24), "g": (1536, 40)}
"""Width and blocks of DINOv2's networks."""


def backbone_state(
    width: int,
    depth: int,
    grid: tuple[int, ...] = (37, 37),
    patch: int = 14,
    channels: int = 3,
    registers: int = 0,
    swiglu: bool = False,
    chunks: int = 0,
    device: str = "cpu",
) -> dict[str, Tensor]:
    """Return a backbone as Meta and the authors of 3DINO publish it.

    Args:
        width: Of tokens.
        depth: Blocks.
        grid: Patches along each axis.
        patch: Edge of a patch.
        channels: Of the input.
        registers: Register tokens.
        swiglu: Whether feed-forward layers are gated.
        chunks: Into how many the blocks are divided; 0 for a flat list.
        device: `meta` for names and shapes alone.
    """
    hidden = (int(width * 8 / 3) + 7) // 8 * 8
    gated = {"mlp.w12": (2 * hidden, width), "mlp.w3": (width, hidden)}
    plain = {"mlp.fc1": (4 * width, width), "mlp.fc2": (width, 4 * width)}
    linear = {"attn.qkv": (3 * width, width), "attn.proj": (width, width)} | (gated if swiglu else plain)
    block = {f"{name}.weight": shape for name, shape in linear.items()}
    block |= {f"{name}.bias": shape[:1] for name, shape in linear.items()}
    block |= {f"{norm}.{kind}": (width,) for norm in ("norm1", "norm2") for kind in ("weight", "bias")}
    block |= {"ls1.gamma": (width,), "ls2.gamma": (width,)}
    shapes = {
        "cls_token": (1, 1, width),
        "mask_token": (1, width),
        "pos_embed": (1, 1 + torch.Size(grid).numel(), width),
        "patch_embed.proj.weight": (width, channels, *[patch] * len(grid)),
        "patch_embed.proj.bias": (width,),
        "norm.weight": (width,),
        "norm.bias": (width,),
    }
    if registers:
        shapes["register_tokens"] = (1, registers, width)
    for index in range(depth):
        place = f"blocks.{index // (depth // chunks)}.{index}" if chunks else f"blocks.{index}"
        shapes |= {f"{place}.{name}": shape for name, shape in block.items()}
    generator = torch.Generator(device).manual_seed(0) if device == "cpu" else None
    return {name: torch.randn(shape, generator=generator, device=device) for name, shape in shapes.items()}


def head_state(width: int, prototypes: int = 16, parametrized: bool = False) -> dict[str, Tensor]:
    """Return one projection head of three layers, in either spelling of weight normalisation."""
    names = ("weight_g", "weight_v")
    if parametrized:
        names = ("parametrizations.weight.original0", "parametrizations.weight.original1")
    widths, state = (width, 12, 12, 6), {}
    for layer, (before, after) in enumerate(itertools.pairwise(widths)):
        state |= {f"mlp.{2 * layer}.weight": torch.randn(after, before), f"mlp.{2 * layer}.bias": torch.randn(after)}
    return state | {f"last_layer.{names[0]}": torch.ones(prototypes, 1), f"last_layer.{names[1]}": torch.randn(16, 6)}


def teacher_state(backbone: dict[str, Tensor], parametrized: bool = False) -> dict[str, dict[str, Tensor]]:
    """Return a teacher checkpoint: backbone and both heads, below `teacher`."""
    width = backbone["cls_token"].shape[-1]
    parts = {"backbone": backbone} | {
        kind: head_state(width, parametrized=parametrized) for kind in ("dino_head", "ibot_head")
    }
    return {"teacher": {f"{part}.{name}": t for part, state in parts.items() for name, t in state.items()}}


def as_transformers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a flat backbone under the names of transformers."""
    renamed = {}
    for name, tensor in state.items():
        if ".attn.qkv." in name:
            for kind, part in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                renamed[name.replace("attn.qkv", f"attention.attention.{kind}")] = part.contiguous()
        else:
            renamed[name] = tensor
    table = {
        "blocks.": "encoder.layer.",
        "attn.proj": "attention.output.dense",
        "ls1.gamma": "layer_scale1.lambda1",
        "ls2.gamma": "layer_scale2.lambda1",
        "mlp.w12": "mlp.weights_in",
        "mlp.w3": "mlp.weights_out",
        "patch_embed.proj": "embeddings.patch_embeddings.projection",
        "pos_embed": "embeddings.position_embeddings",
        "cls_token": "embeddings.cls_token",
        "mask_token": "embeddings.mask_token",
        "register_tokens": "embeddings.register_tokens",
    }
    found = {}
    for name, tensor in renamed.items():
        for ours, theirs in table.items():
            name = name.replace(ours, theirs)
        found[f"layernorm.{name[5:]}" if name.startswith("norm.") else name] = tensor
    return found
