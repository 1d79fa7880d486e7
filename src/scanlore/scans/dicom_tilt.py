"""A tilted gantry: slices that are shifted against each other within their planes, brought to a rectangular grid."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from scanlore.errors import DataError
from scanlore.scans.geometry import SHEAR_TOLERANCE
from scanlore.scans.scan import Array, FloatArray

LARGEST_TILT = 45.0
"""Degrees; gantries tilt by up to 30."""

LARGEST_GROWTH = 4.0
"""How many times larger the rectangular grid may be: more comes from wrong positions."""


@dataclass(frozen=True)
class Tilt:
    """How slices are shifted.

    Attributes:
        degrees: Angle between the line through the slices and their normal.
        shift: (2,) pixels along columns and rows by which each slice lies further than the one before.
        start: (2,) pixels by which the rectangular grid begins before the first slice; at most 0.
        size: `(columns, rows)` of the rectangular grid.
        affine: Of the rectangular grid, in the space of the given one.
    """

    degrees: float
    shift: tuple[float, float]
    start: tuple[int, int]
    size: tuple[int, int]
    affine: FloatArray


def tilt_of(size: tuple[int, int], affine: FloatArray, num_slices: int, where: object) -> Tilt | None:
    """Return how slices are tilted; `None` where their shear is too small to matter.

    Args:
        size: `(columns, rows)` of a slice.
        affine: (4, 4) from `(column, row, slice)` indices to millimetres.
        num_slices: Number of them.
        where: The file or folder concerned.

    Raises:
        DataError: The slices are sheared more than any gantry does.
    """
    spacing = np.linalg.norm(affine[:3, :2], axis=0)
    in_plane = affine[:3, :2] / spacing
    step = affine[:3, 2]
    beside = in_plane.T @ step
    upright = step - in_plane @ beside
    degrees = math.degrees(math.atan2(float(np.linalg.norm(beside)), float(np.linalg.norm(upright))))
    if math.sin(math.radians(degrees)) <= SHEAR_TOLERANCE:
        return None
    shift = beside / spacing
    reach = shift * (num_slices - 1)
    start, end = np.floor(np.minimum(reach, 0) + 1e-6), np.ceil(np.maximum(reach, 0) - 1e-6)
    grown = size + end - start
    if degrees > LARGEST_TILT or grown.prod() > LARGEST_GROWTH * size[0] * size[1]:
        fix = "export the series again, or resample it to a rectangular grid"
        raise DataError(f"sheared slices: by {degrees:.1f} degrees", where=where, fix=fix)
    rectangular = affine.copy()
    rectangular[:3, 2] = upright
    rectangular[:3, 3] += affine[:3, :2] @ start
    return Tilt(
        degrees=degrees,
        shift=(float(shift[0]), float(shift[1])),
        start=(int(start[0]), int(start[1])),
        size=(int(grown[0]), int(grown[1])),
        affine=rectangular,
    )


def upright(volume: npt.NDArray[Any], tilt: Tilt) -> Array:
    """Resample a tilted volume to its rectangular grid: each slice is moved within its plane, linearly interpolated.

    Args:
        volume: `(C, slices, rows, columns)`.
        tilt: From `tilt_of`.

    Returns:
        The same type with rows and columns of `tilt.size`; corners that no slice reaches hold the smallest value of
        their channel, and integers are rounded.
    """
    columns, rows = tilt.size
    resampled = np.empty((*volume.shape[:2], rows, columns), volume.dtype)
    for target, channel in zip(resampled, volume, strict=True):
        fill = channel.min()
        for number, pixels in enumerate(channel):
            offsets = [number * step - begin for step, begin in zip(tilt.shift, tilt.start, strict=True)]
            moved = _moved(_moved(pixels.astype(np.float32), offsets[1], rows, fill).T, offsets[0], columns, fill).T
            target[number] = moved if volume.dtype.kind == "f" else np.rint(moved)
    return resampled


def _moved(pixels: npt.NDArray[np.float32], offset: float, size: int, fill: float) -> npt.NDArray[np.float32]:
    """Shift along the first axis by `offset` pixels into `size` ones."""
    whole = math.floor(offset + 1e-6)
    rest = max(0.0, offset - whole)
    padded = np.full((size + 2, pixels.shape[1]), fill, np.float32)
    padded[1 + whole : 1 + whole + len(pixels)] = pixels
    if rest < 1e-5:
        return padded[1:-1]
    return np.asarray(padded[1:-1] * np.float32(1 - rest) + padded[:-2] * np.float32(rest))
