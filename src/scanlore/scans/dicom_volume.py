"""The voxels of a stack of slices, read into memory that is taken once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from scanlore.scans.dicom_file import Pixels, reading
from scanlore.scans.dicom_frames import Frame
from scanlore.scans.dicom_pixels import read_grey
from scanlore.scans.dicom_stack import Stack, rivals_error, without_copies
from scanlore.scans.dicom_tilt import upright
from scanlore.scans.rescale import rescale_in_place
from scanlore.scans.scan import Array


def read_volume(stack: Stack, pixels: Mapping[Path, Pixels], where: object) -> tuple[Array, Stack]:
    """Read and rescale the voxels of a stack.

    Args:
        stack: From `stack_of`.
        pixels: How each file stores its pixels.
        where: The file or folder concerned.

    Returns:
        `(C, slices, rows, columns)`, and the stack without the copies that the pixels have shown.

    Raises:
        DataError: Pixels cannot be read, or positions hold several slices that differ.
    """
    if stack.has_rivals:
        stack = _without_copies(stack, pixels, where)
    volume = _stored(stack.places, pixels)
    kept = _distinct_channels(volume)
    if len(kept) < len(volume):
        places = [tuple(place[channel] for channel in kept) for place in stack.places]
        stack = without_copies(stack, places)
        volume = np.ascontiguousarray(volume[kept])
    volume = _rescaled(volume, stack.places)
    return (upright(volume, stack.tilt) if stack.tilt else volume), stack


def _stored(places: Sequence[Sequence[Frame]], pixels: Mapping[Path, Pixels]) -> npt.NDArray[Any]:
    """Return `(C, slices, rows, columns)` as stored."""
    dtype = np.result_type(*{pixels[frame.path].dtype for place in places for frame in place})
    volume = np.empty((len(places[0]), len(places), *places[0][0].shape), dtype)
    targets: defaultdict[Path, dict[int, Array]] = defaultdict(dict)
    for number, place in enumerate(places):
        for channel, frame in enumerate(place):
            targets[frame.path][frame.index] = volume[channel, number]
    for path, wanted in targets.items():
        with reading(path, "the pixels cannot be read"):
            read_grey(path, pixels[path], wanted)
    return volume


def _rescaled(volume: npt.NDArray[Any], places: Sequence[Sequence[Frame]]) -> Array:
    """Rescale each slice with its own slope and intercept, which differ in PET."""
    scales = {(frame.slope, frame.intercept) for place in places for frame in place}
    if len(scales) == 1:
        slices = volume.reshape(-1, *volume.shape[2:])
        return rescale_in_place(slices, *scales.pop()).reshape(volume.shape)
    scaled = np.empty(volume.shape, np.float32)
    for number, place in enumerate(places):
        for channel, frame in enumerate(place):
            target = scaled[channel, number]
            target[...] = volume[channel, number]
            target *= np.float32(frame.slope)
            target += np.float32(frame.intercept)
    return scaled


def _distinct_channels(volume: npt.NDArray[Any]) -> list[int]:
    """Return the channels that are not copies of an earlier one."""
    kept: list[int] = []
    for number, channel in enumerate(volume):
        middle = len(channel) // 2  # most differ there, so that the whole is rarely compared
        is_copy = any(
            np.array_equal(channel[middle], volume[other, middle]) and np.array_equal(channel, volume[other])
            for other in kept
        )
        if not is_copy:
            kept.append(number)
    return kept


def _without_copies(stack: Stack, pixels: Mapping[Path, Pixels], where: object) -> Stack:
    """Leave out slices with the pixels of another one at their position.

    Raises:
        DataError: Positions hold unequal numbers of slices even so.
    """
    places = [_distinct_slices(place, pixels) if len(place) > 1 else place for place in stack.places]
    if len({len(place) for place in places}) > 1:
        raise rivals_error(sum(len(place) > 1 for place in places), len(places), where)
    return without_copies(stack, places)


def _distinct_slices(place: tuple[Frame, ...], pixels: Mapping[Path, Pixels]) -> tuple[Frame, ...]:
    distinct: dict[bytes, Frame] = {}
    for frame in place:
        layout = pixels[frame.path]
        read: Array = np.empty(frame.shape, layout.dtype)
        with reading(frame.path, "the pixels cannot be read"):
            read_grey(frame.path, layout, {frame.index: read})
        distinct.setdefault(blake2b(np.ascontiguousarray(read).data).digest(), frame)
    return tuple(distinct.values())
