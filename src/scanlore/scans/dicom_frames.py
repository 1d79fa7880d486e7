"""Where each slice of a DICOM file lies, from the header alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scanlore.errors import DataError
from scanlore.scans.geometry import check_affine
from scanlore.scans.scan import FloatArray

HEADER_TAGS = (
    "Modality",
    "PatientID",
    "SeriesInstanceUID",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "SamplesPerPixel",
    "BitsAllocated",
    "PixelRepresentation",
    "PhotometricInterpretation",
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "PixelSpacing",
    "SpacingBetweenSlices",
    "SliceThickness",
    "RescaleSlope",
    "RescaleIntercept",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
)
"""All that is ever read besides the pixels."""

UNEVEN_MM, UNEVEN_SHARE = 0.01, 0.01
"""A slice may lie this many millimetres, or this share of the gap, away from an even stack."""

SAME_POSITION = 1e-3
SAME_ORIENTATION = 1e-3

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


class UnevenSlicesError(DataError):
    """The slices of a series have unequal gaps."""


@dataclass(frozen=True)
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
    """

    path: Path
    index: int
    shape: tuple[int, int]
    orientation: FloatArray
    position: FloatArray
    pixel_spacing: FloatArray
    thickness: float | None
    slope: float
    intercept: float

    @property
    def height(self) -> float:
        """Position along the slice normal in mm."""
        return float(self.position @ np.cross(self.orientation[:3], self.orientation[3:]))


def frames_of(dataset: Any, path: Path) -> list[Frame]:
    """Return the slices of one file, in the order of its pixels.

    Args:
        dataset: A pydicom dataset with at least `HEADER_TAGS`; classic, or enhanced with functional groups.
        path: Its file.

    Raises:
        DataError: Orientation, position or pixel spacing is missing.
    """
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence")
    if not per_frame and int(dataset.get("NumberOfFrames") or 1) > 1:
        raise DataError("a multi-frame image without the position of its frames is not a volume", where=path)
    shared = dataset.get("SharedFunctionalGroupsSequence") or []
    return [
        _frame([*groups, *shared, dataset], dataset, path, index)
        for index, groups in enumerate([[group] for group in per_frame] if per_frame else [[]])
    ]


def _frame(places: list[Any], dataset: Any, path: Path, index: int) -> Frame:
    def numbers(sequence: str, keyword: str, count: int, name: str) -> FloatArray:
        value = _lookup(places, sequence, keyword)
        if value is None or len(value) != count:
            raise DataError(
                f"the DICOM header has no {name}", where=path, fix="geometry is never guessed; export the series again"
            )
        return np.array([float(number) for number in value])

    def number(sequence: str, keyword: str, default: float) -> float:
        value = _lookup(places, sequence, keyword)
        return default if value in (None, "") else float(value)

    gap = number("PixelMeasuresSequence", "SpacingBetweenSlices", 0.0)
    return Frame(
        path=path,
        index=index,
        shape=(int(dataset.Rows), int(dataset.Columns)),
        orientation=numbers("PlaneOrientationSequence", "ImageOrientationPatient", 6, "image orientation"),
        position=numbers("PlanePositionSequence", "ImagePositionPatient", 3, "image position"),
        pixel_spacing=numbers("PixelMeasuresSequence", "PixelSpacing", 2, "pixel spacing"),
        thickness=abs(gap or number("PixelMeasuresSequence", "SliceThickness", 0.0)) or None,
        slope=number("PixelValueTransformationSequence", "RescaleSlope", 1.0),
        intercept=number("PixelValueTransformationSequence", "RescaleIntercept", 0.0),
    )


def _lookup(places: list[Any], sequence: str, keyword: str) -> Any:
    """Find a value in the functional groups of the frame, then in the shared ones, then in the data set itself."""
    for place in places:
        for holder in [*(place.get(sequence) or []), place]:
            if holder.get(keyword) is not None:
                return holder.get(keyword)
    return None


def same_orientation(first: FloatArray, second: FloatArray) -> bool:
    """Whether two image orientations agree up to rounding."""
    return bool(np.allclose(first, second, rtol=0, atol=SAME_ORIENTATION))


def stack_affine(frames: list[Frame], where: object) -> FloatArray:
    """Return the affine from `(column, row, slice)` indices to RAS+ millimetres.

    The step between slices comes from the positions of the first and the last one, not from a header field.

    Args:
        frames: Sorted by `Frame.height`, at least one.
        where: The file or folder concerned.

    Raises:
        DataError: Slices differ in shape, spacing or orientation, lie at one place, or are not evenly spaced.
    """
    first, last = frames[0], frames[-1]
    for frame in frames:
        if frame.shape != first.shape or not np.allclose(frame.pixel_spacing, first.pixel_spacing, rtol=1e-3):
            raise DataError("the slices differ in size or pixel spacing", where=where)
        if not same_orientation(frame.orientation, first.orientation):
            raise DataError("the slices differ in orientation", where=where, fix="give one series at a time")
    affine = np.eye(4)
    affine[:3, 0] = first.orientation[:3] * first.pixel_spacing[1]
    affine[:3, 1] = first.orientation[3:] * first.pixel_spacing[0]
    affine[:3, 3] = first.position
    if len(frames) == 1:
        affine[:3, 2] = np.cross(first.orientation[:3], first.orientation[3:]) * _single_thickness(first)
    else:
        _check_even(np.array([frame.height for frame in frames]), where)
        affine[:3, 2] = (last.position - first.position) / (len(frames) - 1)
    affine = _LPS_TO_RAS @ affine
    check_affine(affine, where)
    return affine


def _single_thickness(frame: Frame) -> float:
    if frame.thickness is None:
        raise DataError("a single slice without slice spacing or thickness has no geometry", where=frame.path)
    return frame.thickness


def _check_even(heights: FloatArray, where: object) -> None:
    gaps = np.diff(heights)
    num_same = int((gaps < SAME_POSITION).sum())
    if num_same:
        raise DataError(
            f"{num_same} of {len(heights)} slices lie where another one lies (several time points, echoes or copies)",
            where=where,
            fix="keep one volume per folder, or convert the series to NIfTI",
        )
    even = np.linspace(heights[0], heights[-1], len(heights))
    if np.abs(heights - even).max() > max(UNEVEN_MM, UNEVEN_SHARE * float(np.median(gaps))):
        raise UnevenSlicesError(
            f"the slices are not evenly spaced: gaps of {gaps.min():.3g} to {gaps.max():.3g} mm",
            where=where,
            fix="a slice is missing or is not of this series; export it again, or resample it to an even NIfTI grid",
        )
