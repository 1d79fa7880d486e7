"""From the names of tensors in published files to ours, which are DINOv2's.

Read are the files of Meta and of DINOv2's training code (blocks in chunks, wrapped modules, both spellings of weight
normalisation), of timm and of transformers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from scanlore.errors import ModelError

Tensors = dict[str, Tensor]

_WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
_LEADING = {"backbone", "dinov2", "dinov2_with_registers"}
_NETWORKS = ("teacher", "student")
_HEADS = ("dino_head.", "ibot_head.")
_WEIGHT_NORM = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
_TRANSFORMERS = [
    (re.compile(pattern), ours)
    for pattern, ours in (
        (r"^embeddings\.(cls_token|mask_token|register_tokens)$", r"\1"),
        (r"^embeddings\.position_embeddings$", "pos_embed"),
        (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
        (r"^encoder\.layer\.", "blocks."),
        (r"\.attention\.attention\.", ".attn."),
        (r"\.attention\.output\.dense\.", ".attn.proj."),
        (r"\.layer_scale(\d)\.lambda1$", r".ls\1.gamma"),
        (r"\.mlp\.weights_in\.", ".mlp.w12."),
        (r"\.mlp\.weights_out\.", ".mlp.w3."),
        (r"^layernorm\.", "norm."),
    )
]
_QKV = ("query", "key", "value")


@dataclass
class Named:
    """Tensors by our names.

    Attributes:
        backbone: Of the backbone.
        heads: Of projection heads.
        others: Names of tensors of another network in the same file.
        adapted: Names of tensors that were put together anew, each with how.
    """

    backbone: Tensors
    heads: Tensors
    others: list[str]
    adapted: list[tuple[str, str]] = field(default_factory=list)


def our_names(tensors: Tensors, where: Path) -> Named:
    """Return the tensors of a file by our names.

    Args:
        tensors: By the names in the file.
        where: The file.

    Raises:
        ModelError: Two names mean one tensor, or the file is a shard of one process.
    """
    plain = _unwrapped(tensors, where)
    chosen = next((kind for kind in _NETWORKS if any(name.startswith(f"{kind}.") for name in plain)), None)
    others = [name for name in plain if chosen and not name.startswith(f"{chosen}.")]
    own = {name.removeprefix(f"{chosen}."): tensor for name, tensor in plain.items() if name not in set(others)}
    renamed = _unique(((_rename(name), tensor) for name, tensor in own.items()), where)
    heads = {name: tensor for name, tensor in renamed.items() if name.startswith(_HEADS)}
    named = Named({name: t for name, t in renamed.items() if name not in heads}, heads, others)
    _join_qkv(named)
    _from_timm(named)
    return named


def _unwrapped(tensors: Tensors, where: Path) -> Tensors:
    if any("flat_param" in name for name in tensors):
        fix = "use the whole checkpoint, e.g. eval/training_*/teacher_checkpoint.pth"
        raise ModelError("is the part of a checkpoint that one process wrote", where=where, fix=fix)
    names = ((".".join(part for part in name.split(".") if part not in _WRAPPERS), t) for name, t in tensors.items())
    return _unique(names, where)


def _unique(pairs: Iterable[tuple[str, Tensor]], where: Path) -> Tensors:
    found: Tensors = {}
    for name, tensor in pairs:
        if name in found:
            raise ModelError(f"two tensors mean {name}", where=where, fix="keep one network in the file")
        found[name] = tensor
    return found


def _rename(name: str) -> str:
    parts = name.split(".")
    while len(parts) > 1 and parts[0] in _LEADING:
        parts = parts[1:]
    if parts[0] == "blocks" and len(parts) > 2 and parts[1].isdecimal() and parts[2].isdecimal():
        parts = ["blocks", *parts[2:]]  # chunk, then the number of the block in the whole network
    name = ".".join(parts)
    if name.startswith(_HEADS):
        for spelling, ours in _WEIGHT_NORM.items():
            name = name.replace(spelling, ours)
        return name
    for pattern, ours in _TRANSFORMERS:
        name = pattern.sub(ours, name)
    return name


def _join_qkv(named: Named) -> None:
    """Join the queries, keys and values of transformers, which come apart."""
    for first in [name for name in named.backbone if ".attn.query." in name]:
        names = [first.replace(".query.", f".{kind}.") for kind in _QKV]
        if all(name in named.backbone for name in names):
            joined = first.replace(".query.", ".qkv.")
            named.backbone[joined] = torch.cat([named.backbone.pop(name) for name in names])
            named.adapted.append((joined, "joined from query, key and value"))


def _from_timm(named: Named) -> None:
    """Undo what timm does otherwise: names of registers and gated layers, and [CLS] with its position folded in."""
    state = named.backbone
    if "reg_token" in state:
        state["register_tokens"] = state.pop("reg_token")
    _rename_gated(state)
    positions, kernel = state.get("pos_embed"), state.get("patch_embed.proj.weight")
    if positions is not None and kernel is not None and _is_without_cls(positions, kernel):
        state["pos_embed"] = torch.cat([torch.zeros_like(positions[:, :1]), positions], dim=1)
        named.adapted.append(("pos_embed", "the position of [CLS] is folded into cls_token: zeros added"))
    if "mask_token" not in state and "cls_token" in state:
        state["mask_token"] = torch.zeros_like(state["cls_token"][0])
        named.adapted.append(("mask_token", "not stored: zeros, as before training"))


def _is_without_cls(positions: Tensor, kernel: Tensor) -> bool:
    return positions.ndim == 3 and kernel.ndim > 3 and root(positions.shape[1], kernel.ndim - 2) is not None


def _rename_gated(state: Tensors) -> None:
    for name in [name for name in state if name.endswith(".mlp.fc1.weight")]:
        block, second = name.removesuffix("fc1.weight"), state.get(name.replace("fc1", "fc2"))
        if second is not None and len(state[name]) == 2 * second.shape[-1]:
            for theirs, ours in (("fc1", "w12"), ("fc2", "w3")):
                for kind in ("weight", "bias"):
                    if f"{block}{theirs}.{kind}" in state:
                        state[f"{block}{ours}.{kind}"] = state.pop(f"{block}{theirs}.{kind}")


def root(count: int, power: int) -> int | None:
    """Return the whole number whose power `count` is; `None` where there is none."""
    edge = round(count ** (1 / power))
    return edge if edge > 0 and edge**power == count else None
