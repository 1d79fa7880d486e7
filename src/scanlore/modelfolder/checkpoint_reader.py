"""Reading the checkpoints of a run without executing anything.

A checkpoint is a folder of `torch.distributed.checkpoint`: tensors in `*.distcp` files, `.metadata` that says where
each lies, and `state.json` with plain numbers. `.metadata` is a pickle, so it is read by an unpickler that knows its
few classes and refuses everything else; tensors are read with `weights_only`.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import pickle
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.metadata import Metadata, MetadataIndex, TensorStorageMetadata

from scanlore.errors import ModelError

METADATA = ".metadata"
NUMBERS = "state.json"
METHOD = "method."
"""What the names of a method's tensors start with in a checkpoint."""

_MODULE = "torch.distributed.checkpoint.metadata"
_ALLOWED = {
    *(
        (_MODULE, name)
        for name in (
            "Metadata",
            "TensorStorageMetadata",
            "TensorProperties",
            "ChunkStorageMetadata",
            "StorageMeta",
            "MetadataIndex",
            "_MEM_FORMAT_ENCODING",
        )
    ),
    ("torch.distributed.checkpoint.filesystem", "_StorageInfo"),
    ("torch.serialization", "_get_layout"),
    ("torch", "Size"),
}


class _Unpickler(pickle.Unpickler):
    """Knows what the metadata of tensors is made of, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("pathlib"):  # where it was written; of no use here
            return PurePosixPath
        if (module, name) in _ALLOWED or (module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it holds {module}.{name}, which is refused")


@contextlib.contextmanager
def reading(folder: Path) -> Iterator[None]:
    """Say in one line that a checkpoint cannot be read.

    Raises:
        ModelError: Whatever is wrong with it.
    """
    try:
        yield
    except CheckpointException as error:  # of all ranks, and no Exception
        first = next((failure[0] for failure in error.failures.values()), error)
        raise _damaged(folder, first) from None
    except (OSError, RuntimeError, EOFError, ValueError, LookupError, AttributeError, TypeError) as error:
        raise _damaged(folder, error) from None
    except (AssertionError, pickle.UnpicklingError) as error:
        raise _damaged(folder, error) from None


def _damaged(folder: Path, error: BaseException) -> ModelError:
    reason = str(error).partition("\n")[0] or "it is empty"
    if isinstance(error, FileNotFoundError):
        reason = f"{Path(str(error.filename)).name} is missing"
    fix = "remove this folder; the run goes on from the checkpoint before"
    return ModelError(f"the checkpoint cannot be read: {reason}", where=folder, fix=fix)


def read_metadata(folder: Path) -> Metadata:
    """Return where the tensors of a checkpoint lie.

    Raises:
        ModelError: It is damaged, or holds anything but the metadata of tensors.
    """
    with reading(folder), (folder / METADATA).open("rb") as file:
        metadata = _Unpickler(file).load()
        if not isinstance(metadata, Metadata):
            raise ValueError("its metadata is something else")
        entries = metadata.state_dict_metadata.values()
        places = [Path(place.relative_path) for place in (metadata.storage_data or {}).values()]
        if not all(isinstance(entry, TensorStorageMetadata) for entry in entries):
            raise ValueError("it holds something else than tensors")
        if any(len(place.parts) != 1 or place.parts[0] == ".." for place in places):
            raise ValueError("it names files outside its folder")
        return metadata


def read_numbers(folder: Path) -> dict[str, Any]:
    """Return the plain numbers of a checkpoint.

    Raises:
        ModelError: They are missing or damaged.
    """
    with reading(folder):
        numbers = json.loads((folder / NUMBERS).read_text(encoding="utf-8"))
        if not isinstance(numbers, dict):
            raise ValueError(f"{NUMBERS} is something else")
        return numbers


def read_checkpoint(folder: Path, prefixes: tuple[str, ...] = ("",)) -> dict[str, Tensor]:
    """Read tensors of the method from a checkpoint that any number of processes wrote, in this process alone.

    Args:
        folder: Of the checkpoint, `RUN/checkpoints/step_XXXXXXXX`.
        prefixes: What the wanted names start with, as in the method, e.g. `("teacher.backbone.",)`; all by default.

    Returns:
        Whole tensors on the CPU by their names in the method.

    Raises:
        ModelError: It is damaged.
    """
    metadata = read_metadata(folder)
    known = [name.removeprefix(METHOD) for name in metadata.state_dict_metadata if name.startswith(METHOD)]
    with reading(folder):
        return {name: _read(folder, metadata, METHOD + name) for name in known if name.startswith(prefixes)}


def _read(folder: Path, metadata: Metadata, name: str) -> Tensor:
    stored = metadata.state_dict_metadata[name]
    assert isinstance(stored, TensorStorageMetadata)
    if sum(math.prod(chunk.sizes) for chunk in stored.chunks) != math.prod(stored.size):
        raise ValueError(f"parts of {name} are missing")
    whole = torch.empty(stored.size, dtype=stored.properties.dtype)
    for chunk in stored.chunks:
        place = metadata.storage_data[MetadataIndex(name, chunk.offsets)]
        with (folder / place.relative_path).open("rb") as file:
            file.seek(place.offset)
            part = torch.load(io.BytesIO(file.read(place.length)), map_location="cpu", weights_only=True)
        box = tuple(slice(low, low + size) for low, size in zip(chunk.offsets, chunk.sizes, strict=True))
        whole[box] = part.reshape(tuple(chunk.sizes))
    return whole
