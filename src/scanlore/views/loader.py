"""Batches of views: read and sampled by worker processes, a pure function of the seed and the batch's number."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scanlore.corpus.index import StoredScans
from scanlore.views.photometric import apply_photometric
from scanlore.views.policy import ViewPolicy
from scanlore.views.randomness import keyed_generator
from scanlore.views.sampler import sample
from scanlore.views.stream import stream


@dataclass
class ViewGroup:
    """Views of one size, crop-major: the first crop of every scan, then the second of every scan ...

    Attributes:
        pixels: `(crops * scans, 1, *spatial)`; float16 from the workers.
        draws: `(crops * scans, draw width)` photometric draws.
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
        masks: `(rows, cells)`, true where a patch or block is hidden; empty where the policy hides nothing.
        places: `(M,)` where the hidden cells are in the flattened masks: found here, as their number is a shape, and
            a device would have to be waited for to tell it.
        weights: `(M,)` one over the number of hidden cells of each one's row.
    """

    number: int
    scans: list[str]
    groups: dict[str, ViewGroup]
    masks: Tensor
    places: Tensor = field(init=False)
    weights: Tensor = field(init=False)

    def __post_init__(self) -> None:
        """Locate what is hidden."""
        self.places = self.masks.flatten().nonzero().flatten()
        counts = self.masks.sum(-1)
        self.weights = (1.0 / counts.clamp_min(1)).repeat_interleave(counts)


@dataclass(frozen=True)
class LoaderPlan:
    """What a loader gives.

    Attributes:
        scans: Where from.
        policy: Which views.
        batch_size: Scans per batch on this rank.
        rank: Of this process.
        world_size: Number of processes.
    """

    scans: StoredScans
    policy: ViewPolicy
    batch_size: int
    rank: int = 0
    world_size: int = 1


def make_batch(plan: LoaderPlan, number: int) -> Batch:
    """Read and sample the views of batch `number`."""
    places, policy = scan_places(plan, number), plan.policy.for_batch(number)
    sizes, width = policy.group_sizes(), policy.draw_width
    groups = {name: _empty_group(count * len(places), shape, width) for name, (count, shape) in sizes.items()}
    affines: dict[str, list[npt.NDArray[np.float64] | None]] = {
        name: [None] * len(group.pixels) for name, group in groups.items()
    }
    for row, (index, visit) in enumerate(places):
        entry, pyramid = plan.scans.entry(index), plan.scans.pyramid(index)
        scaling, outside = policy.scaling(entry), policy.outside
        for name, views in policy.plan(entry, visit).items():
            for crop, planned in enumerate(views):
                place = crop * len(places) + row
                group = groups[name]
                group.pixels[place, 0] = sample(pyramid, planned.view, scaling, "pretraining", outside)
                group.draws[place] = torch.from_numpy(planned.draw)
                group.low[place], group.high[place] = scaling.low, scaling.high
                affines[name][place] = planned.view.matrix
    for name, group in groups.items():
        # 2D plans may mix images and slices of volumes, whose maps differ in height: pad to the higher
        group.affines = _stack(affines[name])
    masks = policy.masks(number, plan.rank, len(places))
    hidden = torch.empty(0, dtype=torch.bool) if masks is None else torch.from_numpy(masks)
    return Batch(number, [plan.scans.content_id(index) for index, _ in places], groups, hidden)


def _empty_group(count: int, shape: tuple[int, ...], width: int) -> ViewGroup:
    pixels = torch.empty((count, 1, *shape), dtype=torch.float16)
    draws = torch.empty((count, width), dtype=torch.float64)
    return ViewGroup(pixels, draws, torch.empty(count), torch.empty(count), torch.empty(0))


def _stack(matrices: list[npt.NDArray[np.float64] | None]) -> Tensor:
    known = [matrix for matrix in matrices if matrix is not None]
    if not known:
        return torch.empty(0)
    height = max(len(matrix) for matrix in known)
    padded = [np.pad(matrix, ((0, height - len(matrix)), (0, 0)), constant_values=np.nan) for matrix in known]
    return torch.from_numpy(np.stack(padded))


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
    return stream(plan, make_batch, start, stop, num_workers)


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
        group.pixels = apply_photometric(pixels, group.draws, low, high) if group.draws.numel() else pixels
    for name in ("masks", "places", "weights"):
        setattr(batch, name, getattr(batch, name).to(device, non_blocking=True))
    return batch
