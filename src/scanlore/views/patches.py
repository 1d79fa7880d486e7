"""Batches of labelled patches for training with labels, a pure function of the seed and the batch's number."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scanlore.errors import ConfigError
from scanlore.scans.intensity import linear_map
from scanlore.tasks.labelled_index import LabelledEntry, LabelledStore
from scanlore.views.affine import Patch, grid_steps, random_turn
from scanlore.views.affine_settings import PatchSettings
from scanlore.views.nnunet_draws import draw_intensity
from scanlore.views.nnunet_photometric import apply_intensity
from scanlore.views.randomness import keyed_generator
from scanlore.views.sampler import sample, sample_labels
from scanlore.views.stream import stream
from scanlore.views.view import View, compose, in_plane, slice_map


@dataclass(frozen=True)
class LabelledPlan:
    """What a loader of labelled patches gives.

    Attributes:
        store: The labelled cases, drawn uniformly with replacement.
        settings: Of the patches, with every `auto` replaced.
        batch_size: Patches per batch on this rank.
        seed: Of the run.
        rank: Of this process.
        world_size: Number of processes.
    """

    store: LabelledStore
    settings: PatchSettings
    batch_size: int
    seed: int
    rank: int = 0
    world_size: int = 1

    @property
    def patch(self) -> tuple[int, ...]:
        """Shape of a patch.

        Raises:
            ConfigError: It is still `auto`.
        """
        if isinstance(self.settings.patch, str) or isinstance(self.settings.spacing, str):
            raise ConfigError("patch and spacing are still 'auto'", fix="choose them from the labelled cases first")
        return self.settings.patch


@dataclass
class LabelledBatch:
    """Patches of some cases with their labels.

    Attributes:
        number: Of the batch, counted from the start of the run.
        cases: Names of the cases, in order.
        pixels: `(B, C, *patch)`; float16 from the workers.
        labels: `(B, *patch)` int16.
        draws: `(B, C, WIDTH)` changes of intensity, from `draw_intensity`.
    """

    number: int
    cases: list[str]
    pixels: Tensor
    labels: Tensor
    draws: Tensor


def labelled_batches(plan: LabelledPlan, start: int, stop: int, num_workers: int) -> Iterator[LabelledBatch]:
    """Yield the batches `start` to `stop - 1` in order.

    Args:
        plan: What they hold.
        start: First batch.
        stop: Behind the last.
        num_workers: Processes that read ahead; 0 reads in this one.

    Raises:
        DataError: The store cannot be read.
    """
    return stream(plan, make_labelled_batch, start, stop, num_workers)


def make_labelled_batch(plan: LabelledPlan, number: int) -> LabelledBatch:
    """Read and sample the patches of batch `number`.

    The last third (`settings.foreground`) of the patches holds a voxel of a random class (nnU-Net).
    """
    patch, size = plan.patch, plan.batch_size
    first_forced = round(size * (1 - plan.settings.foreground))
    cases, rows = [], []
    for row in range(size):
        rng = keyed_generator(plan.seed, "patch", (number * plan.world_size + plan.rank) * size + row)
        entry = plan.store.case(int(rng.integers(len(plan.store))))
        cases.append(entry.name)
        rows.append(_make_patch(rng, entry, plan.settings, patch, row >= first_forced))
    pixels, labels, draws = (torch.stack(parts) for parts in zip(*rows, strict=True))
    return LabelledBatch(number, cases, pixels, labels, draws)


def _make_patch(
    rng: np.random.Generator, entry: LabelledEntry, settings: PatchSettings, size: tuple[int, ...], is_forced: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return pixels `(C, *size)`, labels `(*size)` and draws `(C, WIDTH)` of one patch."""
    view = draw_patch(rng, entry, settings, size, is_forced)
    pixels = torch.empty((len(entry.pyramids), *size), dtype=torch.float16)
    for channel, (pyramid, stats) in enumerate(zip(entry.pyramids, entry.stats, strict=True)):
        scaling = linear_map(settings.scaling, stats, settings.window)
        # As at prediction: never a level coarser than the patch
        pixels[channel] = sample(pyramid, view, scaling, "evaluation", settings.outside)
    labels = sample_labels(entry.labels, view).to(torch.int16)
    return pixels, labels, torch.from_numpy(draw_intensity(rng, len(pixels), settings.intensity))


def draw_patch(
    rng: np.random.Generator, entry: LabelledEntry, settings: PatchSettings, size: tuple[int, ...], is_forced: bool
) -> View:
    """Draw where a patch lies in its case: one map for all channels and the labels.

    Args:
        rng: Of this patch.
        entry: The case.
        settings: Of the patches.
        size: Shape of the patch; two edges on a volume give a patch of one slice.
        is_forced: Whether it holds a voxel of a random class, where the case has any.
    """
    turn = random_turn(rng, settings)
    voxel = _foreground_voxel(rng, entry) if is_forced else None
    shape, spacing, outer = entry.shape, entry.spacing, None
    if len(shape) > len(size):
        axis = entry.through_axis if entry.through_axis is not None else len(shape) - 1
        outer = slice_map(axis, float(rng.integers(shape[axis]) if voxel is None else voxel[axis]), len(shape))
        shape, spacing = in_plane(shape, outer), spacing and in_plane(spacing, outer)
        voxel = None if voxel is None else np.delete(voxel, axis)
    target = None if isinstance(settings.spacing, str) else settings.spacing
    patch = Patch(size, *grid_steps(target, spacing, len(size)))
    centre = patch.random_centre(rng, shape) if voxel is None else patch.centre_near(voxel, shape)
    matrix = patch.map(turn, centre)
    return View(matrix if outer is None else compose(outer, matrix), size)


def _foreground_voxel(rng: np.random.Generator, entry: LabelledEntry) -> npt.NDArray[np.int64] | None:
    classes = [label for label, voxels in sorted(entry.foreground.items()) if len(voxels)]
    if not classes:
        return None
    voxels = entry.foreground[classes[int(rng.integers(len(classes)))]]
    return np.asarray(voxels[int(rng.integers(len(voxels)))], dtype=np.int64)


def to_device_labelled(batch: LabelledBatch, device: torch.device) -> LabelledBatch:
    """Move a batch to the device and change its intensities there.

    Args:
        batch: As the loader gave it.
        device: Of the model.

    Returns:
        The batch with float32 pixels.
    """
    pixels = batch.pixels.to(device, non_blocking=True).float()
    batch.pixels = apply_intensity(pixels, batch.draws)
    batch.labels = batch.labels.to(device, non_blocking=True)
    return batch
