"""What tells two sets of weights, or of files, apart."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

import torch
from torch import nn

from scanlore.inference.cases import Case


def weights_fingerprint(model: nn.Module) -> str:
    """Return a hash of all parameters and buffers with their names: the same for the same weights on any device."""
    hashed = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        hashed.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        hashed.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return hashed.hexdigest()[:16]


def files_fingerprint(cases: Sequence[Case]) -> str:
    """Return a hash of the files of cases: their names, sizes and times."""
    return digest([(source.name, *source.size_and_mtime()) for case in cases for source in case.sources])


def digest(facts: object) -> str:
    """Return a short hash of what JSON can hold."""
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
