"""DINOv2 weights in the layouts of transformers and timm: a folder, or a page of the Hugging Face hub."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

from scanlore.errors import MissingDependencyError, ModelError, nearest
from scanlore.modelfolder.licences import OF_A_PAGE
from scanlore.modelfolder.published.files import read_weights_file
from scanlore.modelfolder.published.load import Source, weights_of
from scanlore.modelfolder.weights_type import Weights
from scanlore.registry import BACKBONES

WEIGHTS, CONFIG, PROCESSOR, CARD = "model.safetensors", "config.json", "preprocessor_config.json", "README.md"
TIMM_NAMES = tuple(
    f"vit_{size}_patch14{registers}_dinov2"
    for registers in ("", "_reg4")
    for size in ("small", "base", "large", "giant")
)
_TIMM_TAG = ".lvd142m"
_MODEL_TYPES = ("dinov2", "dinov2_with_registers")


def open_hub(reference: str, rest: str) -> Weights:
    """Read `hf:ORG/NAME` or `hf:FOLDER`.

    Raises:
        ModelError: There is no such model, it cannot be downloaded, or is no DINOv2.
    """
    if rest and Path(rest).exists():
        return _open_folder(reference, Path(rest))
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", rest) or rest.startswith((".", "-")):
        fix = "hf:ORG/NAME, e.g. hf:facebook/dinov2-small, or hf:FOLDER with config.json and model.safetensors"
        raise ModelError(f"{rest!r} is no model of the hub and no folder", where=reference, fix=fix)
    return _open_folder(reference, _download(rest, reference))


def open_timm(reference: str, rest: str) -> Weights:
    """Read `timm:NAME` of the DINOv2 family.

    Raises:
        ModelError: It is another model, or cannot be downloaded.
    """
    name = rest.removesuffix(_TIMM_TAG)
    if name not in TIMM_NAMES:
        fix = f"names: {', '.join(TIMM_NAMES)}{nearest(name, list(TIMM_NAMES))}"
        raise ModelError(f"no DINOv2 model of timm {rest!r}", where=reference, fix=fix)
    return _open_folder(reference, _download(f"timm/{name}{_TIMM_TAG}", reference))


def _download(repository: str, reference: str) -> Path:
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError
    except ImportError:
        what = "downloading from the Hugging Face hub needs huggingface_hub"
        raise MissingDependencyError(what, where=reference, fix="pip install 'scanlore[zoo]'") from None
    try:
        return Path(snapshot_download(repository, allow_patterns=[WEIGHTS, CONFIG, PROCESSOR, CARD]))
    except (OSError, ValueError, HfHubHTTPError) as error:
        reason = " ".join(str(error).partition("\n")[0].split())[:200]
        fix = f"download https://huggingface.co/{repository} where there is a network, and name its folder: hf:FOLDER"
        raise ModelError(f"cannot be downloaded: {reason}", where=reference, fix=fix) from None


def _open_folder(reference: str, folder: Path) -> Weights:
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            fix = f"it needs {CONFIG} and {WEIGHTS}"
            raise ModelError(f"has no {name}", where=folder if folder.is_dir() else reference, fix=fix)
    config, processor = _json(folder / CONFIG), _json(folder / PROCESSOR)
    own = config.get("pretrained_cfg") or {}  # timm's
    _check_config(config, folder)
    source = Source(
        reference,
        ndim=2,
        licence=_licence(folder, own),
        mean=_numbers(processor.get("image_mean") or own.get("mean")),
        std=_numbers(processor.get("image_std") or own.get("std")),
        input_size=_edge(processor.get("crop_size")),
    )
    weights = weights_of(read_weights_file(folder / WEIGHTS), source)
    heads = config.get("num_attention_heads", BACKBONES[weights.architecture.name].num_heads)
    if heads != BACKBONES[weights.architecture.name].num_heads:
        what = f"has {heads} attention heads, {weights.architecture.name} has others"
        raise ModelError(what, where=folder / CONFIG)
    return weights


def _check_config(config: dict[str, Any], folder: Path) -> None:
    """Refuse what has the same names of tensors and computes something else."""
    kind = config.get("model_type", config.get("architecture", "nothing"))
    is_timm = str(kind).split(".")[0] in TIMM_NAMES
    if kind not in _MODEL_TYPES and not is_timm:
        fix = f"hf: takes {' and '.join(_MODEL_TYPES)}, and timm's DINOv2"
        raise ModelError(f"is a model of the type {kind!r}", where=folder / CONFIG, fix=fix)
    expected = {"layer_norm_eps": 1e-6, "hidden_act": "gelu"}
    for key, value in expected.items():
        if config.get(key, value) != value:
            raise ModelError(f"{key} is {config[key]!r}, and {value!r} in DINOv2", where=folder / CONFIG)


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict):
        raise ModelError("is damaged", where=path, fix="copy or download it again, whole")
    return found


def _licence(folder: Path, own: dict[str, Any]) -> str:
    """Return the licence that the model card says."""
    card = folder / CARD
    text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
    header = re.match(r"---\n(.*?)\n---", text, re.DOTALL)
    try:
        said = yaml.safe_load(header[1]) if header else None
    except yaml.YAMLError:
        said = None
    facts = said if isinstance(said, dict) else {}
    licence = facts.get("license_name") or facts.get("license") or own.get("license")
    return str(licence) if licence else OF_A_PAGE


def _numbers(values: Any) -> tuple[float, ...] | None:
    is_numbers = isinstance(values, list) and all(isinstance(value, int | float) for value in values)
    return tuple(float(value) for value in values) if is_numbers else None


def _edge(size: Any) -> int | None:
    edge = size.get("height") if isinstance(size, dict) else size
    return edge if isinstance(edge, int) else None
