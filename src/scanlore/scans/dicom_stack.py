"""How slices lie to each other: their order, copies, channels, gaps and tilt, from the headers alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

import numpy as np

from scanlore.errors import DataError
from scanlore.scans.dicom_frames import EXPORT_AGAIN, Frame, normal_of, same_orientation
from scanlore.scans.dicom_tilt import Tilt, tilt_of
from scanlore.scans.geometry import check_affine
from scanlore.scans.scan import FloatArray

UNEVEN_MM, UNEVEN_SHARE = 0.01, 0.01
"""A slice may lie this many millimetres, or this share of the gap, away from an even stack."""

UNEVEN_PIXELS = 0.5
"""A slice may lie this many pixels beside an even stack within its plane."""

SAME_POSITION = 1e-3
SAME_SPACING = 1e-3

FEW_COPIES = 0.5
"""Where fewer positions than this share hold several slices these may be copies; the pixels decide."""

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


class GapError(DataError):
    """Slices are missing from a series, or lie unevenly."""


@dataclass(frozen=True)
class Stack:
    """The slices of one scan.

    Attributes:
        places: For each position along the normal, the slices there; several are the channels, in their order, or
            copies as yet unproved where it `has_rivals`.
        affine: From `(column, row, slice)` indices of the scan to RAS+ millimetres, resampled where there is a tilt.
        shape: `(columns, rows, slices)` of the scan, resampled where there is a tilt.
        tilt: Of the gantry.
        num_copies: Slices left out because they are the same as another one.
    """

    places: tuple[tuple[Frame, ...], ...]
    affine: FloatArray
    shape: tuple[int, int, int]
    tilt: Tilt | None
    num_copies: int

    @property
    def has_rivals(self) -> bool:
        """Whether some positions, and not all, hold several slices."""
        return len({len(place) for place in self.places}) > 1

    @property
    def num_channels(self) -> int:
        """Slices at each position."""
        return min(len(place) for place in self.places)

    @property
    def problems(self) -> tuple[str, ...]:
        """What a scan says about it; possible copies are taken for copies."""
        notes = []
        if num_copies := self.num_copies + sum(len(place) - self.num_channels for place in self.places):
            notes.append(f"duplicate slices: {num_copies} {'copy' if num_copies == 1 else 'copies'} left out")
        if self.num_channels > 1:
            notes.append(f"several volumes: {self.num_channels} at the same positions, read as channels")
        if self.tilt:
            notes.append(f"gantry tilt: {self.tilt.degrees:.1f} degrees, resampled")
        return tuple(notes)


def stack_of(frames: Sequence[Frame], where: object) -> Stack:
    """Put slices in order.

    The step between slices comes from the positions of the first and the last one, not from a header field.

    Args:
        frames: In any order, at least one.
        where: The file or folder concerned.

    Raises:
        DataError: Slices differ in shape, spacing or orientation, several lie at one place, are missing, or are not
            evenly spaced.
    """
    _check_alike(frames, where)
    places = _places(frames)
    num_repeated = sum(len(place) > 1 for place in places)
    if len({len(place) for place in places}) > 1 and num_repeated >= FEW_COPIES * len(places):
        raise rivals_error(num_repeated, len(places), where)
    first = [place[0] for place in places]
    columns, rows = first[0].shape[::-1]
    affine = _affine(first, where)
    tilt = tilt_of((columns, rows), affine, len(first), where)
    if tilt:
        (columns, rows), affine = tilt.size, tilt.affine
    check_affine(affine, where)
    num_copies = len(frames) - sum(map(len, places))
    return Stack(places, affine, (columns, rows, len(places)), tilt, num_copies)


def rivals_error(num_repeated: int, num_places: int, where: object) -> DataError:
    """Return the error of positions that hold unequal numbers of slices."""
    return DataError(
        f"duplicate slices: {num_repeated} of {num_places} positions hold several that differ",
        where=where,
        fix="keep one volume per folder, or convert the series to NIfTI",
    )


def without_copies(stack: Stack, places: Sequence[tuple[Frame, ...]]) -> Stack:
    """Return the stack with the slices that are left when the pixels have shown which are copies.

    Args:
        stack: As the headers show it.
        places: As many slices at each position.
    """
    num_gone = sum(map(len, stack.places)) - sum(map(len, places))
    return replace(stack, places=tuple(places), num_copies=stack.num_copies + num_gone)


def _check_alike(frames: Sequence[Frame], where: object) -> None:
    first = frames[0]
    for frame in frames:
        spacings = zip(frame.pixel_spacing, first.pixel_spacing, strict=True)
        if frame.shape != first.shape or any(abs(a - b) > SAME_SPACING * b for a, b in spacings):
            raise DataError("mixed slices: they differ in size or pixel spacing", where=where)
        if not same_orientation(frame.orientation, first.orientation):
            raise DataError("mixed slices: they differ in orientation", where=where, fix="give one series at a time")


def _places(frames: Sequence[Frame]) -> tuple[tuple[Frame, ...], ...]:
    """Gather the slices of each position, without those that are the same object again."""
    places: list[dict[str, Frame]] = []
    last = -math.inf
    for frame in sorted(frames, key=lambda frame: (frame.height, frame.path, frame.index)):
        if frame.height - last > SAME_POSITION:
            places.append({})
            last = frame.height
        # Without an identifier it cannot be the same object.
        places[-1].setdefault(frame.uid if frame.uid[0] != "#" else f"{frame.path}{frame.uid}", frame)
    return tuple(tuple(sorted(place.values(), key=lambda frame: frame.order)) for place in places)


def _affine(frames: Sequence[Frame], where: object) -> FloatArray:
    """Return the affine of the grid as it was taken, with any tilt."""
    first, last = frames[0], frames[-1]
    affine = np.eye(4)
    affine[:3, 0] = np.multiply(first.orientation[:3], first.pixel_spacing[1])
    affine[:3, 1] = np.multiply(first.orientation[3:], first.pixel_spacing[0])
    affine[:3, 3] = first.position
    if len(frames) == 1:
        affine[:3, 2] = np.multiply(normal_of(first.orientation), _single_thickness(first, where))
    else:
        _check_even([frame.height for frame in frames], where)
        affine[:3, 2] = np.subtract(last.position, first.position) / (len(frames) - 1)
        _check_straight(frames, affine, where)
    return np.asarray(_LPS_TO_RAS @ affine)


def _single_thickness(frame: Frame, where: object) -> float:
    if frame.thickness is None:
        raise DataError("no geometry: a single slice without spacing or thickness", where=where, fix=EXPORT_AGAIN)
    return frame.thickness


def _check_even(heights: Sequence[float], where: object) -> None:
    gaps = np.diff(heights)
    usual = median(gaps)
    tolerance = max(UNEVEN_MM, UNEVEN_SHARE * usual)
    even = np.linspace(heights[0], heights[-1], len(heights))
    if np.abs(heights - even).max() <= tolerance:
        return
    steps = np.rint(gaps / usual)
    if steps.min() >= 1 and (np.abs(gaps - steps * usual) <= tolerance * steps).all() and steps.max() > 1:
        missing = int(steps.sum()) - len(gaps)
        what = f"missing slices: {missing} of {len(heights) + missing}"
        raise GapError(what, where=where, fix="export the series again, with all its slices")
    raise GapError(
        f"uneven slices: gaps of {gaps.min():.3g} to {gaps.max():.3g} mm",
        where=where,
        fix="export the series again, or resample it to an even NIfTI grid",
    )


def _check_straight(frames: Sequence[Frame], affine: FloatArray, where: object) -> None:
    """Refuse slices that do not lie on one line."""
    positions = np.array([frame.position for frame in frames])
    beside = positions - (affine[:3, 3] + np.arange(len(frames))[:, None] * affine[:3, 2])
    directions = affine[:3, :2] / np.linalg.norm(affine[:3, :2], axis=0)
    shift = np.abs(beside @ directions)
    if (shift > UNEVEN_PIXELS * np.array(frames[0].pixel_spacing[::-1])).any():
        raise GapError(
            f"uneven slices: shifted within their plane by up to {shift.max():.3g} mm",
            where=where,
            fix="export the series again, or resample it to an even NIfTI grid",
        )
