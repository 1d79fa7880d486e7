"""Checkpoints: whole or not there at all, and read without executing anything."""

from __future__ import annotations

import errno
import os
import pickle
import re
import shutil
from pathlib import Path
from typing import Any

import torch

from scanlore.errors import ModelError

State = dict[str, Any]


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


def save_checkpoint(run: Path, step: int, state: State, keep: int) -> None:
    """Write a checkpoint under another name, rename it, and remove the oldest beyond `keep`."""
    final = checkpoint_path(run, step)
    temporary = final.with_name(f".{final.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        with (temporary / "state.pt").open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
    except (OSError, RuntimeError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if isinstance(error, OSError) or "inline_container" not in str(error):
            raise
        # torch hides what the file system said behind its own complaint about the archive
        raise OSError(errno.ENOSPC, "no space left for a checkpoint") from None
    shutil.rmtree(final, ignore_errors=True)
    temporary.rename(final)
    for old in checkpoint_steps(run)[:-keep]:
        shutil.rmtree(checkpoint_path(run, old), ignore_errors=True)


def load_checkpoint(run: Path, step: int) -> State:
    """Read a checkpoint.

    Raises:
        ModelError: It is damaged.
    """
    path = checkpoint_path(run, step) / "state.pt"
    try:
        state: State = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        reason = str(error).partition("\n")[0] or "it is empty"
        fix = "remove this folder; the run goes on from the checkpoint before"
        raise ModelError(f"the checkpoint cannot be read: {reason}", where=path.parent, fix=fix) from None
    return state
