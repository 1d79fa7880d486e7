"""The loop's own step, on tensors without values: nothing is computed, and no memory is needed."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from copy import copy
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from scanlore.backbones.build import build_backbone
from scanlore.methods.build import build_method
from scanlore.training.parallel import World
from scanlore.training.settings import PretrainSettings
from scanlore.training.step import LoopPlan, Trainer
from scanlore.views.loader import Batch, ViewGroup
from scanlore.views.policy import build_policy


class Fakes(FakeTensorMode):
    """Tensors of shapes alone. A copied network belongs to the same mode; torch would copy the mode as well."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Fakes:
        """Return the mode itself."""
        return self


class FakeTrainer(Trainer):
    """A trainer whose tensors have no values to tell."""

    def _told(
        self, values: dict[str, Tensor], norms: dict[str, Tensor], waited: float, code: int
    ) -> tuple[dict[str, float], list[float], list[float], list[float]]:
        return dict.fromkeys(values, 0.0), [0.0] * len(norms), [waited], [code]


def build_trainer(settings: PretrainSettings, device: torch.device, kind: type[Trainer] = Trainer) -> Trainer:
    """Build what a run trains, with fresh weights, on the device at once.

    Args:
        settings: Of the run.
        device: Where.
        kind: Of trainer.
    """
    with device:
        method = build_method(build_backbone(settings.backbone, settings.seed), settings.method, settings.seed)
    parallel = settings.parallel.model_copy(update={"compile": "off"})
    plan = LoopPlan(settings.training, settings.optim, settings.seed, 0, parallel, anchor=settings.start.anchor)
    return kind(method, plan, World(0, 1, device), _unchanged)


def _unchanged(batch: Batch) -> Batch:
    return batch


@contextlib.contextmanager
def without_values() -> Iterator[None]:
    """Make tensors of shapes alone."""
    with warnings.catch_warnings(), torch.random.fork_rng(), _alone(), Fakes(allow_non_fake_inputs=True):
        warnings.filterwarnings("ignore", "Accessing the data pointer of FakeTensor")  # copying a network looks at it
        yield


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Compute as a single process would: what has no values is not exchanged with others."""
    before = dist.is_initialized
    dist.is_initialized = lambda: False
    try:
        yield
    finally:
        dist.is_initialized = before


def masked_batch(settings: PretrainSettings, num_scans: int) -> Batch:
    """Return a batch of true masks and no views, on the CPU.

    Args:
        settings: Of the run.
        num_scans: In the batch.
    """
    policy = build_policy(settings.views, settings.seed, settings.backbone.patch_size)
    masks = policy.masks(0, 0, num_scans)
    hidden = torch.empty(0, dtype=torch.bool) if masks is None else torch.from_numpy(masks)
    return Batch(0, [""] * num_scans, {}, hidden)


def with_empty_views(masked: Batch, settings: PretrainSettings, device: torch.device) -> Batch:
    """Return a batch as the method sees it, on a device: views and masks without values.

    Args:
        masked: From `masked_batch`.
        settings: Of the run.
        device: Of the views.
    """
    policy = build_policy(settings.views, settings.seed, settings.backbone.patch_size)
    batch, none, count = copy(masked), torch.empty(0), len(masked.scans)
    batch.groups = {}
    for name, (number, shape) in policy.group_sizes().items():
        pixels = torch.empty(number * count, settings.backbone.in_channels, *shape, device=device)
        batch.groups[name] = ViewGroup(pixels, none, none, none, none)
    for name in ("masks", "places", "weights"):
        value = getattr(masked, name)
        setattr(batch, name, torch.empty(value.shape, dtype=value.dtype, device=device))
    return batch
