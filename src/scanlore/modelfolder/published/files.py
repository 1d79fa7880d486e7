"""Reading a file of weights without executing anything in it."""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from scanlore.errors import ModelError

_WRAPPERS = ("teacher", "model", "student", "state_dict")


@dataclass(frozen=True)
class WeightsFile:
    """What a file of weights holds.

    Attributes:
        path: The file.
        tensors: By the names in the file.
        metadata: What a safetensors file says besides.
    """

    path: Path
    tensors: dict[str, Tensor]
    metadata: dict[str, str] = field(default_factory=dict)


def read_weights_file(path: Path) -> WeightsFile:
    """Read safetensors, or what `torch.save` wrote of tensors alone.

    Training checkpoints may keep their tensors below `teacher`, `model`, `student` or `state_dict`; the first of these
    is taken.

    Raises:
        ModelError: There is no such file, it is damaged, or holds anything but tensors and plain values.
    """
    if not path.is_file():
        what = "is a folder, not a file of weights" if path.is_dir() else "there is no such file"
        raise ModelError(what, where=path, fix="name the file of weights")
    found = _safetensors(path) if path.suffix == ".safetensors" else WeightsFile(path, _tensors(_pickled(path), path))
    if not found.tensors:
        raise ModelError("holds no named tensors", where=path)
    return found


def _safetensors(path: Path) -> WeightsFile:
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dict
            return WeightsFile(path, tensors, dict(file.metadata() or {}))
    except (SafetensorError, OSError, ValueError) as error:
        raise _damaged(path, error) from None


def _pickled(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of a file before it refuses it
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"(?:GLOBAL|class|function) ([\w.]+\.[\w.]+)", str(error))
        if found is None:
            raise _damaged(path, "it is no file of tensors that torch.save wrote; nothing was executed") from None
        what = f"holds code, {found[1]}, which is not executed: the file is refused"
        raise ModelError(what, where=path, fix="take a file of tensors alone, best safetensors") from None
    except Exception as error:  # whatever half a zip file or pickle leads to
        raise _damaged(path, error) from None


def _damaged(path: Path, error: object) -> ModelError:
    reason = re.split(r"\n|\. |: file", str(error))[0] or "it ends early"
    return ModelError(f"cannot be read as weights: {reason}", where=path, fix="copy or download it again, whole")


def _tensors(content: Any, path: Path) -> dict[str, Tensor]:
    while isinstance(content, Mapping):
        inner = next((content[key] for key in _WRAPPERS if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            return {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
        content = inner
    raise ModelError(f"holds a {type(content).__name__}, no named tensors", where=path)
