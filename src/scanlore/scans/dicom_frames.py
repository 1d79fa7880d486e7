"""Where each slice of a DICOM file lies, from the header alone."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scanlore.errors import DataError
from scanlore.scans.dicom_tags import numbers, whole, words

SAME_ORIENTATION = 1e-3

UNIT_TOLERANCE = 1e-2
"""How far direction cosines may be from unit length and from a right angle."""

EXPORT_AGAIN = "geometry is never guessed; export the series again"

Vector = tuple[float, ...]

_RANKS = (
    (("FrameContentSequence", "TemporalPositionIndex"), ("FrameContentSequence", "TemporalPositionIdentifier")),
    (("MREchoSequence", "EffectiveEchoTime"), ("MREchoSequence", "EchoTime")),
    (("MRDiffusionSequence", "DiffusionBValue"),),
    (("FrameContentSequence", "FrameAcquisitionNumber"), ("FrameContentSequence", "AcquisitionNumber")),
)
_TIME_RANKS = (
    (("FrameContentSequence", "FrameAcquisitionDateTime"), ("FrameContentSequence", "AcquisitionTime")),
    (("FrameContentSequence", "ContentTime"),),
)
"""What tells several slices at one position apart, the most telling first: functional groups, then the classic name."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One slice.

    Attributes:
        path: Its file.
        index: Its number within the file, 0 for classic files.
        shape: `(rows, columns)`.
        orientation: (6,) direction cosines in LPS of growing column index, then of growing row index.
        position: (3,) centre of the first pixel in LPS millimetres.
        pixel_spacing: (2,) millimetres between rows, then between columns.
        thickness: Distance to the next slice as the header claims it; used for single slices alone.
        slope: Rescale slope.
        intercept: Rescale intercept.
        uid: Identifier of the object, with the index where it has several frames.
        order: Sorts slices at one position: time point, echo time, b-value, acquisition, times, instance number.
        height: Position along the slice normal in mm.
    """

    path: Path
    index: int
    shape: tuple[int, int]
    orientation: Vector
    position: Vector
    pixel_spacing: Vector
    thickness: float | None
    slope: float
    intercept: float
    uid: str
    order: Vector
    height: float


def frames_of(dataset: Any, path: Path) -> list[Frame]:
    """Return the slices of one file, in the order of its pixels.

    Args:
        dataset: A pydicom data set with at least `HEADER_TAGS`; classic, or enhanced with functional groups.
        path: Its file.

    Raises:
        DataError: Orientation, position or pixel spacing is missing.
        ValueError: A number is damaged.
    """
    num_frames = whole(dataset, "NumberOfFrames", 1)
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence")
    if not per_frame:
        if num_frames > 1:
            raise no_geometry(f"{num_frames} frames without their positions", path)
        return [_frame([dataset], dataset, path, 0)]
    if len(per_frame) != num_frames:
        raise no_geometry(f"{num_frames} frames, and positions of {len(per_frame)}", path)
    shared = list(dataset.get("SharedFunctionalGroupsSequence") or [])
    return [_frame([group, *shared, dataset], dataset, path, index) for index, group in enumerate(per_frame)]


def no_geometry(details: str, path: Path) -> DataError:
    """Return the error of a slice whose place is not known."""
    return DataError(f"no geometry: {details}", where=path, fix=EXPORT_AGAIN)


def normal_of(orientation: Vector) -> Vector:
    """Return the unit vector across a slice, from its (6,) orientation."""
    a, b, c, d, e, f = orientation
    return b * f - c * e, c * d - a * f, a * e - b * d


def same_orientation(first: Vector, second: Vector) -> bool:
    """Whether two image orientations agree up to rounding."""
    return all(abs(a - b) <= SAME_ORIENTATION for a, b in zip(first, second, strict=True))


def _frame(places: list[Any], dataset: Any, path: Path, index: int) -> Frame:
    def vector(sequence: str, keyword: str, count: int, name: str) -> Vector:
        value = _lookup(places, sequence, keyword)
        if len(value) != count:
            raise no_geometry(f"the header has no {name}", path)
        return value

    def scalar(sequence: str, keyword: str, default: float) -> float:
        return (*_lookup(places, sequence, keyword), default)[0]

    gap = scalar("PixelMeasuresSequence", "SpacingBetweenSlices", 0.0)
    orientation = vector("PlaneOrientationSequence", "ImageOrientationPatient", 6, "image orientation")
    position = vector("PlanePositionSequence", "ImagePositionPatient", 3, "image position")
    spacing = vector("PixelMeasuresSequence", "PixelSpacing", 2, "pixel spacing")
    _check(orientation, spacing, path)
    return Frame(
        path=path,
        index=index,
        shape=(whole(dataset, "Rows"), whole(dataset, "Columns")),
        orientation=orientation,
        position=position,
        pixel_spacing=spacing,
        thickness=abs(gap or scalar("PixelMeasuresSequence", "SliceThickness", 0.0)) or None,
        slope=scalar("PixelValueTransformationSequence", "RescaleSlope", 1.0),
        intercept=scalar("PixelValueTransformationSequence", "RescaleIntercept", 0.0),
        uid=f"{words(dataset, 'SOPInstanceUID')}#{index}",
        order=_order(places, index),
        height=sum(a * b for a, b in zip(position, normal_of(orientation), strict=True)),
    )


def _check(orientation: Vector, spacing: Vector, path: Path) -> None:
    right, down = orientation[:3], orientation[3:]
    lengths = [sum(value * value for value in axis) ** 0.5 for axis in (right, down)]
    cosine = sum(a * b for a, b in zip(right, down, strict=True))
    if max(abs(lengths[0] - 1), abs(lengths[1] - 1), abs(cosine)) > UNIT_TOLERANCE:
        raise no_geometry("the image orientation is not two perpendicular directions", path)
    if min(spacing) <= 0:
        raise no_geometry("the pixel spacing is not positive", path)


def _order(places: list[Any], index: int) -> Vector:
    ranks = [next(filter(None, (_lookup(places, *place) for place in rank)), (-1.0,))[0] for rank in _RANKS]
    times = [_time(places, rank) for rank in _TIME_RANKS]
    return (*ranks, *times, (*numbers(places[-1], "InstanceNumber"), -1.0)[0], float(index))


def _time(places: list[Any], rank: Sequence[tuple[str, str]]) -> float:
    """Return a time of day, or a date with one, as a number that grows with it; -1 where there is none."""
    for sequence, keyword in rank:
        for holder in _holders(places, sequence):
            if match := re.match(r"\d+(\.\d+)?", words(holder, keyword).replace(":", "")):
                return float(match[0])
    return -1.0


def _lookup(places: list[Any], sequence: str, keyword: str) -> Vector:
    """Find numbers in the functional groups of the frame, then in the shared ones, then in the data set itself."""
    return next(filter(None, (numbers(holder, keyword) for holder in _holders(places, sequence))), ())


def _holders(places: list[Any], sequence: str) -> Iterator[Any]:
    for place in places:
        if len(places) > 1:  # a classic file has nothing in sequences
            yield from place.get(sequence) or []
        yield place
