"""The architecture of a vision transformer, read off its tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from scanlore.backbones.settings import ViTSettings
from scanlore.errors import ModelError
from scanlore.modelfolder.published.names import root
from scanlore.registry import BACKBONES

KERNEL = "patch_embed.proj.weight"
NATIVE_SIZE = 224
"""Edge of the images that DINOv2 was trained and evaluated on, in pixels."""


def infer_architecture(state: Mapping[str, Tensor], where: Path) -> ViTSettings:
    """Return the settings of the network whose tensors these are.

    Positions are resized as by the code the weights come from: in 2D cubic, with an offset of 0.1 without registers and
    anti-aliased with them (DINOv2); in 3D linear with an offset of 0.1 (3DINO).

    Args:
        state: By our names.
        where: The file.

    Raises:
        ModelError: They are no vision transformer that can be built.
    """
    ndim, patch, channels = _patch_embedding(state, where)
    registers = state["register_tokens"].shape[1] if "register_tokens" in state else 0
    if ndim == 2 and channels == 3 and "blocks.0.ls1.gamma" not in state:
        what = "is a vision transformer without LayerScale, which every DINOv2 has"
        raise ModelError(what, where=where, fix="its preprocessing is not known: only DINOv2's family can be read")
    gamma = {} if "blocks.0.ls1.gamma" in state else {"layer_scale": 0.0}
    resizing: dict[str, Any] = {"pos_offset": 0.0 if registers and ndim == 2 else 0.1}
    if ndim == 2:
        resizing |= {"pos_interpolation": "cubic", "pos_antialias": bool(registers)}
    return ViTSettings.model_validate(
        {
            "name": _name(state, where),
            "ndim": ndim,
            "patch_size": patch,
            "image_size": patch * _grid_edge(state, ndim, where),
            "in_channels": channels,
            "num_registers": registers,
        }
        | gamma
        | resizing
    )


def _patch_embedding(state: Mapping[str, Tensor], where: Path) -> tuple[int, int, int]:
    kernel = state.get(KERNEL)
    if kernel is None or kernel.ndim not in (4, 5) or "cls_token" not in state:
        what = f"is no vision transformer of the DINOv2 family (its first tensor is {min(state, default='none')})"
        raise ModelError(what, where=where)
    if any(name.startswith(("storage_tokens", "rope_embed.")) for name in state):
        raise ModelError("holds a DINOv3 network, which cannot be read", where=where, fix="take weights of DINOv2")
    if len(set(kernel.shape[2:])) > 1:
        shape = "x".join(str(edge) for edge in kernel.shape[2:])
        raise ModelError(f"its patches of {shape} voxels have edges that differ", where=where)
    return kernel.ndim - 2, int(kernel.shape[-1]), int(kernel.shape[1])


def _name(state: Mapping[str, Tensor], where: Path) -> str:
    width = state[KERNEL].shape[0]
    numbers = {int(found[1]) for name in state if (found := re.match(r"blocks\.(\d+)\.", name))}
    depth = max(numbers, default=-1) + 1
    if len(numbers) != depth:
        lacking = min(set(range(depth)) - numbers)
        raise ModelError(f"block {lacking} of {depth} is missing", where=where, fix="take the whole file")
    ffn = "swiglu" if "blocks.0.mlp.w12.weight" in state else "mlp"
    known = {
        (entry.embed_dim, entry.depth, entry.ffn): name for name, entry in BACKBONES.items() if entry.family == "vit"
    }
    if (width, depth, ffn) not in known:
        there = ", ".join(f"{w} x {d} {f}" for w, d, f in known)
        raise ModelError(f"no network has width {width}, {depth} blocks and {ffn}", where=where, fix=f"known: {there}")
    return known[width, depth, ffn]


def _grid_edge(state: Mapping[str, Tensor], ndim: int, where: Path) -> int:
    positions = state.get("pos_embed")
    if positions is None or positions.ndim != 3:
        raise ModelError("the position embedding pos_embed is missing", where=where)
    count = int(positions.shape[1]) - 1
    edge = root(count, ndim)
    if edge is None:
        kind = "square" if ndim == 2 else "cube"
        raise ModelError(f"its position embedding is for {count} patches, which are no {kind}", where=where)
    return edge


def native_size(architecture: ViTSettings) -> int:
    """Return the edge of the views a network is shown: that of its positions, and at most 224 pixels in 2D."""
    if architecture.ndim == 3 or architecture.image_size <= NATIVE_SIZE:
        return architecture.image_size
    return max(NATIVE_SIZE // architecture.patch_size, 1) * architecture.patch_size
