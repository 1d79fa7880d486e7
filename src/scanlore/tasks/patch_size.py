"""How large a patch of a task is: the median scan, in edges that the network can halve."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from scanlore.errors import ConfigError


def patch_for(
    shapes: Sequence[tuple[int, ...]],
    spacings: Sequence[tuple[float, ...] | None],
    target_spacing: tuple[float, ...] | None,
    total_stride: int,
    largest: int,
    smallest: int | None = None,
) -> tuple[int, ...]:
    """Return the median shape at the target spacing, rounded up to multiples of the stride and capped.

    Args:
        shapes: Spatial shape of every scan.
        spacings: mm per voxel of every scan, where known.
        target_spacing: mm per voxel of the patch; `None` takes the scans' own voxels, as do scans without spacing.
        total_stride: By how much the network reduces an edge.
        largest: Longest edge allowed.
        smallest: What the longest edge of a patch has at least; `None` for two strides, which a CNN needs.

    Raises:
        ConfigError: `largest` is too short for the network.
    """
    least = 2 * total_stride if smallest is None else smallest
    if largest < least:
        fix = f"take {least} or more"
        raise ConfigError(f"a longest edge of {largest} is too short for the network", where="patch", fix=fix)
    sizes = [
        np.array(shape, float) * (np.divide(spacing, target_spacing) if spacing and target_spacing else 1.0)
        for shape, spacing in zip(shapes, spacings, strict=True)
    ]
    # A hair's breadth above a multiple is that multiple: spacings come from float32 headers
    strides = [math.ceil(float(edge) / total_stride - 1e-3) for edge in np.median(sizes, axis=0)]
    return _edges([min(number, largest // total_stride) for number in strides], total_stride, least)


def check_patch(patch: tuple[int, ...], total_stride: int, smallest: int | None = None) -> None:
    """Refuse a patch whose edges the network cannot halve as often as it has to.

    Args:
        patch: Edges in voxels.
        total_stride: By how much the network reduces an edge.
        smallest: As for `patch_for`.

    Raises:
        ConfigError: An edge is no multiple of the stride, or all are too short; with the nearest patch that fits.
    """
    least = 2 * total_stride if smallest is None else smallest
    fitting = _edges([math.floor(edge / total_stride + 0.5) for edge in patch], total_stride, least)
    if patch != fitting:
        what = f"{' x '.join(map(str, patch))} does not fit a network with a stride of {total_stride}"
        raise ConfigError(what, where="patch", fix=f"the nearest that fits is {' x '.join(map(str, fitting))}")


def _edges(strides: Sequence[int], total_stride: int, smallest: int) -> tuple[int, ...]:
    """Return edges of so many strides, at least one; all are lengthened where the longest is below `smallest`."""
    counts = [max(number, 1) for number in strides]
    least = smallest // total_stride if max(counts) * total_stride < smallest else 1
    return tuple(max(number, least) * total_stride for number in counts)
