"""Batches of views: read and sampled by worker processes, a pure function of the seed and the batch's number.

Nothing is kept from one batch to the next, so a run is resumed by asking for the next number, and the number of
workers changes nothing.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from scanlore.corpus.index import StoredScans
from scanlore.errors import ScanloreError
from scanlore.views.masks import sample_masks
from scanlore.views.multicrop import MultiCropPolicy
from scanlore.views.photometric import apply_photometric
from scanlore.views.photometric_draws import WIDTH
from scanlore.views.randomness import keyed_generator
from scanlore.views.sampler import sample


@dataclass
class ViewGroup:
    """Views of one size, crop-major: the first crop of every scan, then the second of every scan ...

    Attributes:
        pixels: `(crops * scans, 1, *spatial)`; float16 from the workers.
        draws: `(crops * scans, WIDTH)` photometric draws.
        low: `(crops * scans,)` lower bound of the intensity scaling.
        high: Upper bound.
        affines: `(crops * scans, S, V + 1)` float64 maps from the view's grid to the scan's voxels.
    """

    pixels: Tensor
    draws: Tensor
    low: Tensor
    high: Tensor
    affines: Tensor


@dataclass
class Batch:
    """The views of some scans.

    Attributes:
        number: Of the batch, counted from the start of the run.
        scans: Content ids of the scans, in order.
        groups: View groups by name.
        masks: `(global crops, patches)`, true where hidden.
    """

    number: int
    scans: list[str]
    groups: dict[str, ViewGroup]
    masks: Tensor


@dataclass(frozen=True)
class LoaderPlan:
    """What a loader gives.

    Attributes:
        scans: Where from.
        policy: Which views.
        patch_size: Of the backbone, for the masks.
        batch_size: Scans per batch on this rank.
        rank: Of this process.
        world_size: Number of processes.
    """

    scans: StoredScans
    policy: MultiCropPolicy
    patch_size: int
    batch_size: int
    rank: int = 0
    world_size: int = 1


class BatchDataset(Dataset[Batch | ScanloreError]):
    """The batches of a plan by number. An error a user can mend is returned, not raised: workers garble tracebacks."""

    def __init__(self, plan: LoaderPlan) -> None:
        self.plan = plan

    def __getitem__(self, number: int) -> Batch | ScanloreError:
        """Make one batch."""
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # as in a worker, so that sums are taken in the same order
        try:
            return make_batch(self.plan, number)
        except ScanloreError as error:
            return error
        finally:
            torch.set_num_threads(threads)


def make_batch(plan: LoaderPlan, number: int) -> Batch:
    """Read and sample the views of batch `number`."""
    places = scan_places(plan, number)
    sizes = plan.policy.group_sizes()
    groups = {name: _empty_group(count * len(places), shape) for name, (count, shape) in sizes.items()}
    affines: dict[str, list[npt.NDArray[np.float64] | None]] = {
        name: [None] * len(group.pixels) for name, group in groups.items()
    }
    for row, (index, visit) in enumerate(places):
        entry, pyramid = plan.scans.entry(index), plan.scans.pyramid(index)
        scaling = plan.policy.scaling(entry)
        for name, views in plan.policy.plan(entry, visit).items():
            for crop, planned in enumerate(views):
                place = crop * len(places) + row
                group = groups[name]
                group.pixels[place, 0] = sample(pyramid, planned.view, scaling, "pretraining")
                group.draws[place] = torch.from_numpy(planned.draw)
                group.low[place], group.high[place] = scaling.low, scaling.high
                affines[name][place] = planned.view.matrix
    for name, group in groups.items():
        # 2D plans may mix images and slices of volumes, whose maps differ in height: pad to the higher
        group.affines = _stack(affines[name])
    masks = torch.from_numpy(_masks(plan, number, len(groups["global"].pixels)))
    return Batch(number, [str(plan.scans.columns["id"][index]) for index, _ in places], groups, masks)


def _empty_group(count: int, shape: tuple[int, ...]) -> ViewGroup:
    pixels = torch.empty((count, 1, *shape), dtype=torch.float16)
    draws = torch.empty((count, WIDTH), dtype=torch.float64)
    return ViewGroup(pixels, draws, torch.empty(count), torch.empty(count), torch.empty(0))


def _stack(matrices: list[npt.NDArray[np.float64] | None]) -> Tensor:
    known = [matrix for matrix in matrices if matrix is not None]
    if not known:
        return torch.empty(0)
    height = max(len(matrix) for matrix in known)
    padded = [np.pad(matrix, ((0, height - len(matrix)), (0, 0)), constant_values=np.nan) for matrix in known]
    return torch.from_numpy(np.stack(padded))


def _masks(plan: LoaderPlan, number: int, num_crops: int) -> npt.NDArray[np.bool_]:
    settings = plan.policy.settings
    num_patches = (settings.global_crops.size // plan.patch_size) ** settings.ndim
    rng = keyed_generator(plan.policy.seed, number, plan.rank, "masks")
    return sample_masks(rng, num_crops, num_patches, settings.masks)


def scan_places(plan: LoaderPlan, number: int) -> list[tuple[int, int]]:
    """Return the scans of a batch as `(index, visit)`: one endless walk through shuffled passes over the corpus."""
    first = (number * plan.world_size + plan.rank) * plan.batch_size
    places = []
    for position in range(first, first + plan.batch_size):
        visit, place = divmod(position, len(plan.scans))
        places.append((int(_shuffled(plan.policy.seed, visit, len(plan.scans))[place]), visit))
    return places


@lru_cache(maxsize=2)
def _shuffled(seed: int, visit: int, count: int) -> npt.NDArray[np.int64]:
    return keyed_generator(seed, visit, "order").permutation(count)


def batches(plan: LoaderPlan, start: int, stop: int, num_workers: int) -> Iterator[Batch]:
    """Yield the batches `start` to `stop - 1` in order.

    Args:
        plan: What they hold.
        start: First batch.
        stop: Behind the last.
        num_workers: Processes that read ahead; 0 reads in this one.

    Raises:
        DataError: The store cannot be read.
    """
    context = multiprocessing.get_context("forkserver") if num_workers else None
    if context:
        context.set_forkserver_preload([__name__])  # torch is imported once, not by every worker
    loader = DataLoader(
        BatchDataset(plan),
        batch_size=None,
        sampler=range(start, stop),
        num_workers=num_workers,
        multiprocessing_context=context,
        prefetch_factor=2 if num_workers else None,
        collate_fn=_unchanged,
        worker_init_fn=_end_with_parent,
    )
    for batch in loader:
        if isinstance(batch, ScanloreError):
            raise batch
        yield batch


def _end_with_parent(_: int) -> None:
    """Make a worker end when the training process is killed: its parent is the fork server, which would stay."""
    threading.Thread(target=_wait_and_exit, daemon=True).start()


def _wait_and_exit() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _unchanged(batch: Any) -> Any:
    return batch


def to_device(batch: Batch, device: torch.device, clip: bool) -> Batch:
    """Move a batch to the device and apply its photometric transforms there.

    Args:
        batch: As the loader gave it.
        device: Of the model.
        clip: Whether views end within the range of their intensity scaling.

    Returns:
        The batch with float32 pixels.
    """
    for group in batch.groups.values():
        pixels = group.pixels.to(device, non_blocking=True).float()
        low, high = (group.low, group.high) if clip else (None, None)
        group.pixels = apply_photometric(pixels, group.draws, low, high)
    batch.masks = batch.masks.to(device, non_blocking=True)
    return batch
