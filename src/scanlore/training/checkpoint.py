"""Checkpoints: whole or not there at all, written in the background, and read by any number of processes.

The format is in `scanlore.modelfolder.checkpoint_reader`. Every process writes its part, so all of them need to see the
run folder.
"""

from __future__ import annotations

import errno
import json
import logging
import re
import shutil
import warnings
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner, DefaultSavePlanner
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from scanlore.errors import ModelError
from scanlore.modelfolder.checkpoint_reader import NUMBERS, read_metadata, read_numbers, reading
from scanlore.run import write_atomically
from scanlore.training.parallel import World, from_main, is_lost, lost

# It notes every tensor twice, and errors that are told in our own words
logging.getLogger("c10d-NullHandler-dcp_logger").setLevel(logging.CRITICAL)
# The rule, not the exception: most runs have one process
warnings.filterwarnings("ignore", message="torch.distributed is disabled, unavailable or uninitialized")


def checkpoint_steps(run: Path) -> list[int]:
    """Return the steps of the whole checkpoints of a run, ascending."""
    folder = run / "checkpoints"
    if not folder.is_dir():
        return []
    found = (re.fullmatch(r"step_(\d+)", path.name) for path in folder.iterdir())
    return sorted(int(match[1]) for match in found if match)


def checkpoint_path(run: Path, step: int) -> Path:
    """Return the folder of a checkpoint."""
    return run / "checkpoints" / f"step_{step:08d}"


def newest_checkpoint(run: Path, world: World) -> Path | None:
    """Return the newest checkpoint of a run, the same on every process; `None` where there is none."""
    steps = from_main(world, checkpoint_steps(run))
    return checkpoint_path(run, steps[-1]) if steps else None


def own_group(world: World) -> dist.ProcessGroup | None:
    """Return a group of all processes that exchanges nothing but what it is given to; `None` for one alone."""
    if world.size == 1:
        return None
    group = dist.new_group(backend="gloo")
    assert isinstance(group, dist.ProcessGroup)
    return group


class Saver:
    """Saves checkpoints: copies at once, writes in the background, one after the other.

    Args:
        run: The run folder.
        keep: Newest checkpoints that are kept.
        world: Where this process stands; all processes have to save together.
    """

    def __init__(self, run: Path, keep: int, world: World) -> None:
        self.run, self.keep, self.world = run, keep, world
        # The background has its own group: what it exchanges must not mix with the training's
        self.group = own_group(world)
        self.thread = ThreadPoolExecutor(1, "checkpoint")
        self.pending: Future[None] | None = None
        self.last_step = -1

    def save(self, step: int, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
        """Copy the state of a step and begin to write it, when the one before is whole.

        Args:
            step: Steps done.
            tensors: Plain or sharded, by name.
            numbers: What JSON can hold.

        Raises:
            OSError: The one before could not be written.
        """
        self.wait()
        copied = {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}
        self.last_step = step
        self.pending = self.thread.submit(self._write, step, copied, numbers)

    def wait(self) -> None:
        """Wait until what was saved is whole.

        Raises:
            OSError: It could not be written.
            ModelError: Something else went wrong.
            ScanloreError: Another process has ended.
        """
        pending, self.pending = self.pending, None
        if pending is not None:
            pending.result()

    @property
    def has_failed(self) -> bool:
        """Whether what is written in the background has gone wrong already."""
        return self.pending is not None and self.pending.done() and self.pending.exception() is not None

    def close(self) -> None:
        """Wait for what is being written, whatever becomes of it."""
        self.thread.shutdown(wait=True)

    def _write(self, step: int, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
        final = checkpoint_path(self.run, step)
        temporary = final.with_name(f".{final.name}.tmp")
        if self.world.is_main:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
        try:
            _write_tensors(temporary, tensors, self.group)
        except BaseException:
            if self.world.is_main:
                shutil.rmtree(temporary, ignore_errors=True)
            raise
        if self.world.is_main:
            write_atomically(temporary / NUMBERS, json.dumps(numbers))
            shutil.rmtree(final, ignore_errors=True)
            temporary.rename(final)
            for old in checkpoint_steps(self.run)[: -self.keep]:
                shutil.rmtree(checkpoint_path(self.run, old), ignore_errors=True)


def _write_tensors(folder: Path, tensors: dict[str, Tensor], group: dist.ProcessGroup | None) -> None:
    try:
        if group is not None:
            dist.barrier(group)  # nobody writes before the folder is made
        save(
            tensors,
            storage_writer=FileSystemWriter(folder),
            planner=DefaultSavePlanner(flatten_state_dict=False, flatten_sharded_tensors=False),
            process_group=group,
        )
    except CheckpointException as error:  # of any process, and no Exception
        raise _told(next(iter(error.failures.values()))[0], folder) from None
    except RuntimeError as error:
        raise _told(error, folder) from None


def _told(error: BaseException, folder: Path) -> BaseException:
    if isinstance(error, RuntimeError) and ("inline_container" in str(error) or "PytorchStream" in str(error)):
        # torch hides what the file system said behind its own complaint about the archive
        return OSError(errno.ENOSPC, "no space left for a checkpoint")
    if isinstance(error, OSError) or not isinstance(error, Exception):
        return error
    if is_lost(error):
        return lost()
    return ModelError(f"the checkpoint cannot be written: {str(error).partition(chr(10))[0]}", where=folder)


class _Reader(FileSystemReader):
    """Reads metadata without executing what is in it."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        metadata = read_metadata(Path(self.path))
        if metadata.storage_meta is not None:
            metadata.storage_meta.load_id = self.load_id
        return metadata


def load_checkpoint(folder: Path, tensors: dict[str, Tensor], group: dist.ProcessGroup | None = None) -> dict[str, Any]:
    """Read a checkpoint into tensors, whole or sharded, whatever wrote it.

    Args:
        folder: Of the checkpoint.
        tensors: What to fill, by name; the same names on every process.
        group: Of the processes that read together.

    Returns:
        Its numbers.

    Raises:
        ModelError: It is damaged, or does not hold what is asked for.
    """
    stored = stored_like(folder, "")
    wrong = sorted(name for name, tensor in tensors.items() if stored.get(name, (None,))[0] != tuple(tensor.shape))
    wrong += sorted(stored.keys() - tensors.keys())
    if wrong:
        what = f"the checkpoint is of another network: {len(wrong)} tensors differ ({wrong[0]} ...)"
        raise ModelError(what, where=folder, fix="choose another --out")
    with reading(folder):
        load(
            tensors,
            storage_reader=_Reader(folder),
            planner=DefaultLoadPlanner(flatten_state_dict=False, flatten_sharded_tensors=False),
            process_group=group,
        )
    return read_numbers(folder)


def stored_like(folder: Path, prefix: str) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    """Return shape and type of the tensors of a checkpoint whose names start with a prefix."""
    entries = read_metadata(folder).state_dict_metadata
    return {
        name: (tuple(entry.size), entry.properties.dtype)
        for name, entry in entries.items()
        if name.startswith(prefix) and isinstance(entry, TensorStorageMetadata)
    }
