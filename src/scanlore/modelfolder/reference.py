"""One grammar names every model, wherever a command takes one.

`PATH`            a model folder, or the run folder that holds one
`RUN@STEP`        a pretraining run at one of its checkpoints
`random:NAME`     an untrained network: a name of `scanlore models list`
`random:PATH`     an untrained network like the model at PATH, with its preprocessing: the fair baseline of that model
`pixels:EDGE`     the scan itself, resized to EDGE voxels: what any representation has to beat
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from scanlore.backbones.build import build_backbone
from scanlore.backbones.pixels import Pixels
from scanlore.backbones.settings import backbone_settings
from scanlore.config import read_yaml, validate
from scanlore.errors import ModelError, nearest
from scanlore.modelfolder.facts import GRAMMAR, read_backbone_facts
from scanlore.modelfolder.folder import fill, load_model_folder
from scanlore.modelfolder.model import Model
from scanlore.modelfolder.preprocessing import Preprocessing
from scanlore.registry import BACKBONES

# Edge of the images an untrained network sees: DINOv2's global crops.
IMAGE_SIZE = 224
# What S3D's and nnU-Net's networks see, besides their spacing.
CNN_PREPROCESSING = {"scaling": "zscore", "resize": "centre-crop", "outside": 0.0}
SEED = 0


def load_model(reference: str | Path, device: str = "cpu", ndim: int | None = None) -> Model:
    """Load a model by reference.

    Args:
        reference: See the module's grammar.
        device: Where to put it.
        ndim: Spatial axes of the data, for references that fit both: `random:NAME` and `pixels:EDGE`; 3 by default.

    Returns:
        The model in evaluation mode.

    Raises:
        ModelError: There is no such model, or it is damaged.
    """
    text = str(reference)
    kind, colon, rest = text.partition(":")
    if kind == "random" and colon:
        model = _random(text, rest, ndim or 3)
    elif kind == "pixels" and colon:
        model = _pixels(text, rest, ndim or 3)
    else:
        model = _stored(text)
    return model.to(device).eval()


def _random(text: str, rest: str, ndim: int) -> Model:
    if rest in BACKBONES:
        size = BACKBONES[rest].input_size if ndim == 3 else IMAGE_SIZE
        is_vit = BACKBONES[rest].family == "vit"
        options = {"patch_size": 16, "image_size": size} if is_vit else {}
        architecture = backbone_settings({"name": rest, "ndim": ndim} | options, text)
        usual = {} if is_vit else CNN_PREPROCESSING | {"spacing": 1.0 if ndim == 3 else None}
        preprocessing = Preprocessing.model_validate({"ndim": ndim, "input_size": size} | usual)
    elif rest and Path(rest).exists():
        facts = read_backbone_facts(_model_folder(Path(rest), text))
        architecture = backbone_settings(facts["architecture"], where=rest)
        preprocessing = validate(Preprocessing, facts["preprocessing"], where=rest)
    else:
        known = list(BACKBONES)
        fix = f"names: {', '.join(known)}; or the path of a model{nearest(rest, known)}"
        raise ModelError(f"no backbone {rest!r}" if rest else "names no backbone", where=text, fix=fix)
    facts = {"architecture": architecture.model_dump(mode="json"), "provenance": {"untrained": True, "seed": SEED}}
    return Model(text, build_backbone(architecture, SEED), preprocessing, facts)


def _pixels(text: str, rest: str, ndim: int) -> Model:
    if not rest.isdecimal() or int(rest) < 1:
        raise ModelError(f"{rest!r} is no edge in voxels", where=text, fix="a model such as pixels:32")
    preprocessing = Preprocessing.model_validate({"ndim": ndim, "input_size": int(rest), "crop": "none"})
    return Model(text, Pixels(int(rest), ndim), preprocessing, {"provenance": {"untrained": True}})


def _stored(text: str) -> Model:
    path, at, step = text.rpartition("@")
    if at and step.isdecimal() and not Path(text).exists():
        return _checkpoint(text, Path(path), int(step))
    if not Path(text).exists():
        raise ModelError("there is no such model", where=text, fix=f"a model is {GRAMMAR}{_nearest_reference(text)}")
    backbone, preprocessing, facts = load_model_folder(_model_folder(Path(text), text))
    return Model(text, backbone, preprocessing, facts)


def _nearest_reference(text: str) -> str:
    close = nearest(text, list(BACKBONES))
    return close.replace("'", "'random:", 1) if close else nearest(text, _neighbours(Path(text)))


def _neighbours(path: Path) -> list[str]:
    parent = path.parent
    return [str(other) for other in parent.iterdir() if other.is_dir()] if parent.is_dir() else []


def _model_folder(path: Path, text: str) -> Path:
    if (path / "model" / "model.json").is_file():
        return path / "model"
    if (path / "run.json").is_file() and not (path / "model").exists() and (path / "checkpoints").is_dir():
        fix = "end it by the same `scanlore pretrain`, or name a checkpoint: RUN@STEP"
        raise ModelError("the run is not finished", where=text, fix=fix)
    return path / "model" if (path / "run.json").is_file() else path


def _checkpoint(text: str, run: Path, step: int) -> Model:
    """Rebuild the exported backbone of a run from one of its checkpoints."""
    path = run / "checkpoints" / f"step_{step:08d}" / "state.pt"
    if not path.is_file():
        found = sorted(int(p.parent.name[5:]) for p in run.glob("checkpoints/step_*/state.pt"))
        raise ModelError(f"the run has no checkpoint at step {step}", where=run, fix=f"it has {_enumerated(found)}")
    config = read_yaml(run / "config.yaml")
    if not {"backbone", "views"} <= config.keys():
        raise ModelError("is no pretraining run", where=run, fix="RUN@STEP names a run of `scanlore pretrain`")
    architecture = backbone_settings(config["backbone"], where=str(run / "config.yaml"))
    backbone = build_backbone(architecture, SEED)
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)["method"]
    except (OSError, RuntimeError, EOFError, KeyError, pickle.UnpicklingError) as error:
        reason = str(error).partition("\n")[0] or "it is empty"
        raise ModelError(f"is damaged: {reason}", where=path) from None
    teacher = "teacher.backbone."
    prefix = teacher if any(name.startswith(teacher) for name in state) else "backbone."
    fill(backbone, {name.removeprefix(prefix): t for name, t in state.items() if name.startswith(prefix)}, path)
    facts = {"architecture": architecture.model_dump(mode="json"), "provenance": {"run": run.name, "step": step}}
    return Model(text, backbone, preprocessing_of(config["views"], config.get("embedding", "cls")), facts)


def _enumerated(numbers: Sequence[int]) -> str:
    *others, last = [str(number) for number in numbers] or ["none"]
    return f"{', '.join(others)} and {last}" if others else last


def preprocessing_of(views: dict[str, Any], embedding: str) -> Preprocessing:
    """Return the preprocessing that belongs to a model pretrained on views with these settings.

    Args:
        views: As in `config.yaml`.
        embedding: `cls`, `mean` or `cls+mean`.
    """
    facts = {"embedding": embedding} | {name: views[name] for name in ("ndim", "scaling", "window")}
    if views.get("policy") != "affine":
        return Preprocessing.model_validate(facts | {"input_size": views["global_crops"]["size"]})
    size, seen = views["size"], {name: views[name] for name in ("spacing", "outside")} | {"resize": "centre-crop"}
    edges = [size] if isinstance(size, int) else list(size)
    if len(set(edges)) > 1:
        seen["input_shape"] = edges
    return Preprocessing.model_validate(facts | seen | {"input_size": max(edges)})
