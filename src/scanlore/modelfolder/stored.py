"""Weights of our own: model folders, and the checkpoints of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from scanlore.backbones.settings import backbone_settings
from scanlore.backbones.unique import unique_state
from scanlore.config import read_yaml
from scanlore.errors import ModelError
from scanlore.modelfolder.checkpoint_reader import METADATA, read_checkpoint
from scanlore.modelfolder.folder import HEADS, OWN_LICENCE, load_model_folder, network_of, read_tensors
from scanlore.modelfolder.preprocessing import preprocessing_of
from scanlore.modelfolder.weights_type import Weights

_TEACHER, _BACKBONE = "teacher.", "backbone."
_OF_A_CHECKPOINT = (f"{_TEACHER}backbone.", _BACKBONE, f"{_TEACHER}dino_head.", f"{_TEACHER}ibot_head.")


def open_folder(name: str, path: Path) -> Weights:
    """Read a model folder, or that of a run.

    Args:
        name: The reference it was asked for by.
        path: Of either folder.

    Raises:
        ModelError: There is no model in it, or it is damaged.
    """
    folder = model_folder(path, name)
    network, preprocessing, facts = load_model_folder(folder)
    heads = read_tensors(folder / HEADS) if (folder / HEADS).is_file() else {}
    architecture = backbone_settings(facts["architecture"], where=str(folder / "model.json"))
    return Weights(name, architecture, unique_state(network), heads, preprocessing, facts)


def model_folder(path: Path, name: str) -> Path:
    """Return the model folder at a path: the path itself, or the model of the run there.

    Raises:
        ModelError: The run there is not finished.
    """
    if (path / "model" / "model.json").is_file():
        return path / "model"
    if (path / "run.json").is_file() and not (path / "model").exists() and (path / "checkpoints").is_dir():
        fix = "end it by the same `scanlore pretrain`, or name a checkpoint: RUN@STEP"
        raise ModelError("the run is not finished", where=name, fix=fix)
    return path / "model" if (path / "run.json").is_file() else path


def open_checkpoint(name: str, run: Path, step: int, licence: str | None) -> Weights:
    """Read the network that a run would have exported at one of its checkpoints.

    Args:
        name: The reference it was asked for by.
        run: The run folder.
        step: Of the checkpoint.
        licence: Of the weights the run started from, if it did.

    Raises:
        ModelError: There is no such checkpoint, or it is damaged.
    """
    path = run / "checkpoints" / f"step_{step:08d}"
    if not (path / METADATA).is_file():
        found = sorted(int(p.parent.name[5:]) for p in run.glob(f"checkpoints/step_*/{METADATA}"))
        raise ModelError(f"the run has no checkpoint at step {step}", where=run, fix=f"it has {_enumerated(found)}")
    config = run_config(run)
    architecture = backbone_settings(config["backbone"], where=str(run / "config.yaml"))
    backbone, heads = _exported(read_checkpoint(path, _OF_A_CHECKPOINT))
    preprocessing = preprocessing_of(config["views"], config.get("embedding", "cls"))
    facts = {
        "architecture": architecture.model_dump(mode="json"),
        "preprocessing": preprocessing.model_dump(mode="json"),
        "provenance": {"run": run.name, "step": step},
        "licence": licence or OWN_LICENCE,
    }
    network = network_of(architecture, backbone, path)
    return Weights(name, architecture, unique_state(network), heads, preprocessing, facts)


def run_config(run: Path) -> dict[str, Any]:
    """Return the settings of a pretraining run.

    Raises:
        ModelError: It is another kind of run.
    """
    config = read_yaml(run / "config.yaml")
    if not {"backbone", "views"} <= config.keys():
        raise ModelError("is no pretraining run", where=run, fix="RUN@STEP names a run of `scanlore pretrain`")
    return config


def _exported(state: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the backbone and the heads of the teacher, or of the only network where there is none."""
    has_teacher = any(name.startswith(_TEACHER) for name in state)
    own = {name.removeprefix(_TEACHER): t for name, t in state.items() if name.startswith(_TEACHER) or not has_teacher}
    heads = {name: tensor for name, tensor in own.items() if not name.startswith(_BACKBONE)}
    return {name.removeprefix(_BACKBONE): t for name, t in own.items() if name not in heads}, heads


def _enumerated(numbers: Sequence[int]) -> str:
    *others, last = [str(number) for number in numbers] or ["none"]
    return f"{', '.join(others)} and {last}" if others else last
