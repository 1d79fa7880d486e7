"""A model's backbone as one file that other programs read."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save
from torch import Tensor

from scanlore.__about__ import __version__
from scanlore.backbones.settings import ResEncSettings, ViTSettings
from scanlore.errors import ModelError

if TYPE_CHECKING:
    from scanlore.modelfolder.weights import Weights

FORMATS = {"dinov2": (".pth", ".pt"), "safetensors": (".safetensors",)}
"""What can be written, and how such files are called."""


def export_bytes(weights: Weights, layout: str) -> bytes:
    """Return the content of a file; the tensors are written as they are, without heads.

    Args:
        weights: What to write.
        layout: `dinov2`: a plain dict of tensors by the names of Meta's published files, as `torch.save` writes it.
            `safetensors`: tensors by our names; its metadata hold `architecture`, `preprocessing`, `provenance` and
            `licence`, each as JSON.

    Raises:
        ModelError: The layout cannot hold such a network.
    """
    tensors = {name: _alone(tensor) for name, tensor in weights.backbone.items()}
    if layout == "safetensors":
        return _in_order(save(tensors, _metadata(weights)))
    _check_dinov2(weights)
    content = io.BytesIO()
    torch.save(tensors, content)
    return content.getvalue()


def untold(architecture: ViTSettings | ResEncSettings, layout: str) -> tuple[str, ...]:
    """Return, a line each, what a reader of this layout has to be told, as the file does not say it."""
    if layout != "dinov2" or isinstance(architecture, ResEncSettings):
        return ()
    lines = ["how a scan becomes its input: see model.json of the model"]
    usual: tuple[str, float, bool] = ("linear", 0.1, False)
    if architecture.ndim == 2:
        usual = ("cubic", 0.0, True) if architecture.num_registers else ("cubic", 0.1, False)
    own = (architecture.pos_interpolation, architecture.pos_offset, architecture.pos_antialias)
    if own != usual:
        kind = "anti-aliased" if own[2] else "not anti-aliased"
        lines.append(f"how positions are resized to other views: {own[0]}, {kind}, offset {own[1]:g}")
    return tuple(lines)


def _check_dinov2(weights: Weights) -> None:
    architecture = weights.architecture
    if isinstance(architecture, ResEncSettings):
        what = f"{architecture.name} is no vision transformer"
    elif architecture.positions == "rope":
        what = "the layout of DINOv2 has no rotary positions"
    else:
        return
    raise ModelError(what, where=weights.name, fix="--format safetensors holds every network")


def _metadata(weights: Weights) -> dict[str, str]:
    facts = {
        "architecture": weights.architecture.model_dump(mode="json"),
        "preprocessing": weights.preprocessing.model_dump(mode="json"),
        "provenance": weights.facts.get("provenance", {}),
        "licence": weights.facts.get("licence"),
    }
    return {"format": "pt", "scanlore": __version__} | {key: json.dumps(value) for key, value in facts.items()}


def _in_order(content: bytes) -> bytes:
    """Return a safetensors file whose header is sorted: the library writes metadata in another order every time."""
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8:start]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + content[start:]


def _alone(tensor: Tensor) -> Tensor:
    """Return a tensor whose memory holds nothing else, as all of it is written."""
    tensor = tensor.detach().cpu().contiguous()
    return tensor if tensor.untyped_storage().nbytes() == tensor.nbytes else tensor.clone()
