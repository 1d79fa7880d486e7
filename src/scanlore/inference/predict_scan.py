"""Labels for every voxel of a scan: windows sampled straight from it, blended, and labelled on its own grid."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import combinations, islice

import torch
from torch import Tensor, nn

from scanlore.backbones.device import Precision, autocast, resolve_precision
from scanlore.corpus.store import Pyramid
from scanlore.errors import ScanloreError
from scanlore.inference.grid import Grid, lay_grid, memory_pyramid
from scanlore.inference.read_ahead import read_ahead
from scanlore.inference.slab import Labels, Slab, slab_axis
from scanlore.inference.windows import Span, num_windows, windows
from scanlore.modelfolder.segmenter import Segmenter
from scanlore.scans.intensity import LinearMap, intensity_stats, linear_map
from scanlore.scans.scan import Scan
from scanlore.views.sampler import sample

NUM_AHEAD = 2
Window = tuple[Span, ...]


@torch.inference_mode()
def predict_scan(
    segmenter: Segmenter,
    scan: Scan,
    *,
    overlap: float = 0.5,
    mirror: bool = True,
    batch_size: int = 1,
    device: str | torch.device = "cpu",
    precision: Precision = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> Labels:
    """Label every voxel of a scan.

    Beyond the scan and the result it holds a slab of logits one window deep, whatever the scan's size.

    Args:
        segmenter: In evaluation mode, already on `device`.
        scan: With the channels the segmenter was trained on.
        overlap: Share of a window that its neighbour covers as well, at least; in [0, 1).
        mirror: Whether to average the logits over all mirror images of a window: 2^ndim passes instead of one.
        batch_size: Windows that pass the network at once.
        device: Device of the forward pass.
        precision: `auto` is bfloat16 where the device multiplies it natively, else float32.
        progress: Called with the number of windows done and their total.

    Returns:
        `(*scan.shape)`, uint8, or int16 where labels exceed 255.

    Raises:
        ModelError: The scan has other axes or channels than the segmenter.
    """
    segmenter.check(scan)
    facts, place = segmenter.preprocessing, torch.device(device)
    patch, grid = facts.patch, lay_grid(scan.shape, scan.spacing, facts.spacing)
    pyramids, scalings = [], []
    for voxels in scan.voxels:
        stats = intensity_stats(voxels)
        pyramids.append(memory_pyramid(voxels, scan.through_axis, stats, grid.steps))
        scalings.append(linear_map(facts.scaling, stats, facts.window))
    axis = slab_axis(grid.shape, patch)
    slab = Slab(grid, scan.shape, patch, axis, list(facts.labels), place)
    chosen, done, total = resolve_precision(precision, place), 0, num_windows(grid.shape, patch, overlap)
    take = partial(_take, segmenter, pyramids, scalings, grid)
    for result in read_ahead(take, _chunks(windows(grid.shape, patch, overlap, axis), batch_size), NUM_AHEAD):
        if isinstance(result, ScanloreError):
            raise result
        group, pixels = result
        with autocast(chosen, place):
            differences = _differences(segmenter, pixels.to(place), mirror)
        for window, values in zip(group, differences, strict=True):
            slab.add(window, values)
        done += len(group)
        if progress:
            progress(done, total)
    return slab.finish()


def _chunks(items: Iterable[Window], size: int) -> Iterator[list[Window]]:
    remaining = iter(items)
    while chunk := list(islice(remaining, size)):
        yield chunk


def _take(
    segmenter: Segmenter,
    pyramids: Sequence[Pyramid],
    scalings: Sequence[LinearMap],
    grid: Grid,
    group: list[Window],
) -> tuple[list[Window], Tensor]:
    """Sample some windows, `(B, C, *patch)`."""
    facts = segmenter.preprocessing
    pixels = torch.empty((len(group), len(pyramids), *facts.patch))
    for row, window in zip(pixels, group, strict=True):
        view = grid.view(tuple(span.start for span in window), facts.patch)
        for channel, pyramid, scaling in zip(row, pyramids, scalings, strict=True):
            channel.copy_(sample(pyramid, view, scaling, "evaluation", outside=facts.outside))
    return group, pixels


def _differences(network: nn.Module, pixels: Tensor, mirror: bool) -> Tensor:
    """Return logits less that of the background, `(B, K - 1, *patch)` float32, averaged over mirror images."""
    axes = range(2, pixels.ndim)
    flips = [flip for count in range(len(axes) + 1) for flip in combinations(axes, count)] if mirror else [()]
    total = torch.zeros(())
    for number, flip in enumerate(flips):
        logits = network(pixels.flip(flip) if flip else pixels).float()
        differences = (logits[:, 1:] - logits[:, :1]).flip(flip) if flip else logits[:, 1:] - logits[:, :1]
        total = total.add_(differences) if number else differences
    return total.div_(len(flips))
