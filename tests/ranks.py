"""What the processes of the gloo pool do; each function runs on every rank."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tiny_pretraining import tiny_settings, tiny_train

Floats = npt.NDArray[np.float32]


def shared_sinkhorn(rank: int, parts: list[Floats], temp: float) -> Floats:
    from scanlore.methods.dino.losses import sinkhorn_knopp

    return sinkhorn_knopp(torch.from_numpy(parts[rank]), temp, 3).numpy()


def shared_center(rank: int, center: Floats, parts: list[Floats]) -> Floats:
    from scanlore.methods.dino.losses import updated_center

    return updated_center(torch.from_numpy(center), torch.from_numpy(parts[rank]), 0.9).numpy()


def train_together(rank: int, corpus: Path, out: Path, overrides: list[str]) -> dict[str, Any]:
    """Return a hash of all weights, and the last losses."""
    from scanlore.training.metrics import read_rows

    method = tiny_train(corpus, tiny_settings(*overrides), out, rank, world_size=2)
    digest = hashlib.sha256()
    for tensor in method.state_dict().values():
        digest.update(tensor.numpy().tobytes())
    return {"weights": digest.hexdigest(), "rows": read_rows(out / "metrics.jsonl") if rank == 0 else []}


def pretrain_together(rank: int, corpus: Path, recipe: str, out: Path, overrides: list[str]) -> str:
    """Return the state the verb found."""
    from scanlore.verbs.pretrain import pretrain

    return pretrain(corpus, recipe, out, overrides, device="cpu").state


def refused_together(rank: int, corpus: Path, recipe: str, out: Path, overrides: list[str]) -> str:
    """Return the message of the refusal."""
    from scanlore.errors import ScanloreError
    from scanlore.verbs.pretrain import pretrain

    try:
        pretrain(corpus, recipe, out, overrides, device="cpu")
    except ScanloreError as error:
        return str(error)
    return ""
