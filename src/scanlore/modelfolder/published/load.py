"""From a file of weights to a network, its preprocessing and what is known about it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from scanlore.backbones.build import build_backbone
from scanlore.backbones.settings import ResEncSettings, ViTSettings, backbone_settings
from scanlore.backbones.unique import unique_state
from scanlore.config import validate
from scanlore.errors import ConfigError, ModelError
from scanlore.modelfolder.facts import read_facts
from scanlore.modelfolder.licences import OF_A_FILE, THREE_DINO
from scanlore.modelfolder.preprocessing import Preprocessing
from scanlore.modelfolder.published.files import WeightsFile
from scanlore.modelfolder.published.infer import infer_architecture, native_size
from scanlore.modelfolder.published.names import Named, our_names
from scanlore.modelfolder.report import LoadReport, compare
from scanlore.modelfolder.weights_type import Weights

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_THREE_DINO_SHAPE = {"name": "vit-large", "ndim": 3, "patch_size": 16, "in_channels": 1, "num_registers": 0}


@dataclass(frozen=True)
class Source:
    """Where weights come from, and what is known of them besides the file.

    Attributes:
        reference: By which they were asked for.
        ndim: What the reference promises; `None` takes both.
        licence: Where it is known.
        mean: What is subtracted from each colour in [0, 1]; ImageNet's by default.
        std: What each colour is divided by.
        input_size: Edge of a view; by default DINOv2's or that of the positions.
    """

    reference: str
    ndim: int | None = None
    licence: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    input_size: int | None = None


def weights_of(file: WeightsFile, source: Source) -> Weights:
    """Return the weights of a file; nothing is left out that the network needs.

    Files that `scanlore export` wrote say themselves what they are.

    Raises:
        ModelError: The file holds another network than asked for, or half of one.
    """
    named = our_names(file.tensors, file.path)
    said = _said(file)
    architecture = said.get("architecture") or infer_architecture(named.backbone, file.path)
    if isinstance(architecture, ResEncSettings):
        fix = "name the model folder it was exported from"
        raise ModelError("holds a U-Net, no vision transformer", where=file.path, fix=fix)
    _check_ndim(architecture, source, file)
    report = compare(named.backbone, shapes_of(architecture), named.adapted, [*named.others, *named.heads])
    report.check(file.path)
    _check_finite(named, report, file)
    preprocessing = said.get("preprocessing") or _preprocessing(architecture, source)
    facts = {
        "architecture": architecture.model_dump(mode="json"),
        "preprocessing": preprocessing.model_dump(mode="json"),
        "provenance": {**said.get("provenance", {}), "published": source.reference.partition(":")[0]}
        | {"file": file.path.name},
        "licence": source.licence or said.get("licence") or _licence_beside(file.path) or _guess_licence(architecture),
    }
    backbone = {name: named.backbone[name].float() for name in report.loaded}
    heads = {name: tensor.float() for name, tensor in named.heads.items()}
    return Weights(source.reference, architecture, backbone, heads, preprocessing, facts, report)


def shapes_of(architecture: ViTSettings | ResEncSettings) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor of a network, without making any."""
    with torch.device("meta"):
        network = build_backbone(architecture)
    return {name: tuple(tensor.shape) for name, tensor in unique_state(network).items()}


def _said(file: WeightsFile) -> dict[str, Any]:
    """Return what a file of `scanlore export` says about itself; nothing for files of others."""
    if "architecture" not in file.metadata:
        return {}
    try:
        said = {key: json.loads(value) for key, value in file.metadata.items() if key not in ("format", "scanlore")}
        said["architecture"] = backbone_settings(said["architecture"], where=str(file.path))
        said["preprocessing"] = validate(Preprocessing, said["preprocessing"], where=str(file.path))
        said["provenance"] = dict(said.get("provenance") or {})
    except (ConfigError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = error.what if isinstance(error, ConfigError) else "its metadata are damaged"
        raise ModelError(reason, where=file.path, fix="it was written by another version") from None
    return said


def _check_ndim(architecture: ViTSettings, source: Source, file: WeightsFile) -> None:
    if source.ndim not in (None, architecture.ndim):
        kind = {2: "dinov2", 3: "3dino"}[architecture.ndim]
        what = f"holds a {architecture.ndim}D network, {source.reference.partition(':')[0]}: names {source.ndim}D ones"
        raise ModelError(what, where=file.path, fix=f"{kind}:{file.path}")


def _check_finite(named: Named, report: LoadReport, file: WeightsFile) -> None:
    bad = [name for name in report.loaded if not named.backbone[name].isfinite().all()]
    if bad:
        what = f"{len(bad)} tensors hold values that are not finite, first {bad[0]}"
        raise ModelError(what, where=file.path, fix="copy or download it again, or take an earlier checkpoint")


def _preprocessing(architecture: ViTSettings, source: Source) -> Preprocessing:
    colours: dict[str, Any] = {}
    if architecture.in_channels == 3 and architecture.ndim == 2:
        colours = {"mean": IMAGENET_MEAN, "std": IMAGENET_STD}
    if source.mean and source.std and len(source.mean) == len(source.std) == architecture.in_channels:
        colours = {"mean": source.mean, "std": source.std}
    size = source.input_size
    if not size or size % architecture.patch_size:
        size = native_size(architecture)
    facts = {"ndim": architecture.ndim, "in_channels": architecture.in_channels, "input_size": size}
    return Preprocessing.model_validate(facts | colours)


def _licence_beside(path: Path) -> str | None:
    """Return the licence of the model folder that a file of weights lies in."""
    if not (path.parent / "model.json").is_file():
        return None
    return str(read_facts(path.parent).get("licence"))


def _guess_licence(architecture: ViTSettings) -> str:
    """Return the licence of a file that does not say: a network that may be 3DINO-ViT counts as that."""
    facts = architecture.model_dump()
    may_be_3dino = all(facts[key] == value for key, value in _THREE_DINO_SHAPE.items())
    return THREE_DINO if may_be_3dino else OF_A_FILE
