"""Single values of a DICOM header, quickly: most are parsed here from the bytes as they lie in the file."""

from __future__ import annotations

import math
import struct
from typing import Any

from pydicom.datadict import tag_for_keyword
from pydicom.multival import MultiValue

_TIMES = ("StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate", "AcquisitionTime", "ContentTime")
_KIND = ("SOPClassUID", "SOPInstanceUID", "Modality", "ImageType", "ConversionType", "BurnedInAnnotation")
_WORDS = (
    *("Manufacturer", "InstitutionName", "StudyDescription", "SeriesDescription", "ProtocolName", "BodyPartExamined"),
    *("SequenceName", "PulseSequenceName", "ScanningSequence", "ContrastBolusAgent", "RequestedProcedureDescription"),
)
_PATIENT = ("PatientID", "PatientSex", "PatientAge", "PatientBirthDate", "StudyInstanceUID", "SeriesInstanceUID")
_PHYSICS = (
    *("MagneticFieldStrength", "RepetitionTime", "EchoTime", "InversionTime", "DiffusionBValue"),
    *("TemporalPositionIdentifier", "AcquisitionNumber", "InstanceNumber"),
)
_GRID = (
    *("ImageOrientationPatient", "ImagePositionPatient", "PixelSpacing", "SpacingBetweenSlices", "SliceThickness"),
    *("ImagerPixelSpacing", "NominalScannedPixelSpacing", "RescaleSlope", "RescaleIntercept"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
)
_PIXELS = (
    *("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
)
_NESTED = ("EffectiveEchoTime", "TemporalPositionIndex", "FrameAcquisitionNumber", "FrameAcquisitionDateTime")

HEADER_TAGS = (*_KIND, *_TIMES, *_WORDS, *_PATIENT, *_PHYSICS, *_GRID, *_PIXELS)
"""All that is ever looked at besides the pixels."""

_TAG = {keyword: tag_for_keyword(keyword) or 0 for keyword in (*HEADER_TAGS, *_NESTED)}

HEADER_TAG_NUMBERS = [_TAG[keyword] for keyword in HEADER_TAGS]

_CODES = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "FL": "f", "FD": "d"}

_BINARY = dict.fromkeys((*_PIXELS[:2], "SamplesPerPixel", *_PIXELS[5:]), "US") | {
    "DiffusionBValue": "FD",
    "EffectiveEchoTime": "FD",
    "TemporalPositionIndex": "UL",
}
"""What numbers that are no text are stored as: an implicit file does not say it."""


def words(dataset: Any, keyword: str) -> str:
    """Return a value as text without surrounding blanks; several are parted by backslashes. Empty where there is none.

    Args:
        dataset: A pydicom data set, or an item of a sequence.
        keyword: Of `HEADER_TAGS`, and no sequence.
    """
    element = dataset.get_item(_TAG[keyword])
    value = None if element is None else element.value
    if value is None:
        return ""
    if isinstance(value, bytes):
        return _decoded(value)
    return "\\".join(map(str, value)) if isinstance(value, MultiValue) else str(value).strip()


def numbers(dataset: Any, keyword: str) -> tuple[float, ...]:
    """Return the numbers of a value; none where it is missing or empty.

    Raises:
        ValueError: A number is damaged or not finite.
    """
    element = dataset.get_item(_TAG[keyword])
    value = None if element is None else element.value
    if value is None or value in ("", b""):
        return ()
    if isinstance(value, bytes):
        found = _parsed(value, element, keyword)
    else:
        found = tuple(map(float, value if isinstance(value, MultiValue) else [value]))
    if not all(map(math.isfinite, found)):
        raise ValueError("not a finite number")
    return found


def number(dataset: Any, keyword: str) -> float | None:
    """Return the first number of a value, as `numbers`."""
    found = numbers(dataset, keyword)
    return found[0] if found else None


def whole(dataset: Any, keyword: str, default: int = 0) -> int:
    """Return the first number of a value as an integer."""
    found = numbers(dataset, keyword)
    return int(found[0]) if found else default


def _decoded(value: bytes) -> str:
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        text = value.decode("latin-1")
    return text.strip("\0 ")


def _parsed(value: bytes, element: Any, keyword: str) -> tuple[float, ...]:
    stored_as = element.VR if element.VR in _CODES else _BINARY.get(keyword)
    if stored_as is None:
        return tuple(float(part) for part in value.rstrip(b"\0 ").split(b"\\") if part.strip())
    code = _CODES[stored_as]
    count = len(value) // struct.calcsize(code)
    return struct.unpack_from(f"{'<' if element.is_little_endian else '>'}{count}{code}", value)
