"""One DINO step on a share of a batch; runs on every rank of the gloo pool, and alone."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from scanlore.methods.contract import Progress
from scanlore.registry import BACKBONES, BackboneEntry
from scanlore.views.loader import Batch, ViewGroup
from tiny_pretraining import random_batch, tiny_method, tiny_settings

NUM_SCANS = 4


def dino_step(rank: int, num_ranks: int, overrides: list[str], bare: bool) -> dict[str, Any]:
    """Return the loss terms, the gradients as the optimiser would see them, and the centres.

    Args:
        rank: Of this process.
        num_ranks: Processes that share the batch; 1 stands alone.
        overrides: Of the tiny recipe.
        bare: Whether nothing is hidden in the scans of the last rank.
    """
    with patch.dict(BACKBONES, {"vit-tiny": BackboneEntry("vit", 24, 2, 3)}):
        settings = tiny_settings(*overrides)
        method = tiny_method(settings).train()
    call = method if num_ranks == 1 else nn.parallel.DistributedDataParallel(method)
    whole = random_batch(settings, NUM_SCANS)
    if bare:
        whole.masks.unflatten(0, (2, NUM_SCANS))[:, NUM_SCANS // 2 :] = False
    terms = call(_share(whole, rank, num_ranks), Progress(0, 10))
    torch.stack(list(terms.values())).sum().backward()
    grads = {name: p.grad.numpy() for name, p in method.named_parameters() if p.grad is not None}
    values = {name: float(term.detach()) for name, term in terms.items()}
    return {"terms": values, "grads": grads, "center": method.patch_center.numpy()}


def _share(batch: Batch, rank: int, num_ranks: int) -> Batch:
    """Return the part of a batch that one rank gets; rows are crop-major."""
    count = NUM_SCANS // num_ranks
    scans = slice(rank * count, (rank + 1) * count)

    def rows(values: torch.Tensor) -> torch.Tensor:
        return values.unflatten(0, (-1, NUM_SCANS))[:, scans].flatten(0, 1).clone()

    empty = torch.empty(0)
    groups = {name: ViewGroup(rows(group.pixels), empty, empty, empty, empty) for name, group in batch.groups.items()}
    return Batch(0, batch.scans[scans], groups, rows(batch.masks))


def teachers_after_a_step(rank: int, is_sharded: bool) -> dict[str, Any]:
    """Return the teachers after `after_step`, of a method whose networks are sharded over the ranks or not."""
    with patch.dict(BACKBONES, {"vit-tiny": BackboneEntry("vit", 24, 2, 3)}):
        settings = tiny_settings("method.gram={teacher: ema, refresh: 0.1}", "views.gram_size=16")
        method = tiny_method(settings)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in method.student.parameters():
            parameter.add_(torch.randn_like(parameter))
    if is_sharded:
        for network in (method.student, method.teacher, method.gram_teacher):
            fully_shard(network, mesh=init_device_mesh("cpu", (2,)))
    method.after_step(Progress(0, 10))
    state = method.state_dict()
    return {
        name: (tensor.full_tensor() if is_sharded and isinstance(tensor, DTensor) else tensor).numpy()
        for name, tensor in state.items()
        if "teacher" in name
    }
