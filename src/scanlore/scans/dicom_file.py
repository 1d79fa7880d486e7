"""What one DICOM file is and where its pixels lie, from a single read of its header."""

from __future__ import annotations

import logging
import os
import struct
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from io import BufferedReader, FileIO
from pathlib import Path
from typing import Any, BinaryIO

import pydicom
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from scanlore.errors import DataError
from scanlore.scans.dicom_frames import Frame, frames_of
from scanlore.scans.dicom_kinds import FLAT_MODALITIES, is_directory, why_no_picture, why_no_scan
from scanlore.scans.dicom_tags import HEADER_TAG_NUMBERS, number, numbers, whole, words
from scanlore.scans.failures import one_line
from scanlore.scans.limits import bytes_there, check_promise, limited_memory

MAGIC_OFFSET = 128

MOST_MEMORY = 10**9
"""Bytes that unpacking a file may take, or a few times its pixels where these are more."""

BUFFER_BYTES = 1 << 14
"""Most headers fit into one read."""

LARGEST_PROMISE, LARGEST_RATIO = 1 << 27, 200
"""A compressed image of more bytes than the first and more than so many times its file is taken for damaged."""

_LONG_FORMS = (b"OB", b"OW", b"UN", b"OF", b"OD", b"OL")
UNKNOWN_LENGTH = 0xFFFFFFFF

# What pydicom logs can quote the header, so it must not reach a log of ours.
logging.getLogger("pydicom").propagate = False


@dataclass(frozen=True, slots=True)
class Pixels:
    """How the pixels of a file are stored.

    Attributes:
        offset: Where the first byte of their value lies in the file; -1 where there are none.
        length: Bytes of the value; the rest of the file where the header does not say.
        syntax: Transfer syntax.
        frames: Number of them.
        shape: `(rows, columns)`.
        samples: 1 for grey values, 3 for colour.
        planar: 1 where each colour has a plane of its own.
        allocated: Bits of a number.
        stored: Bits of it that count.
        signed: Whether numbers have a sign.
        photometric: `MONOCHROME1`, `MONOCHROME2`, `RGB` ...
    """

    offset: int
    length: int
    syntax: str
    frames: int
    shape: tuple[int, int]
    samples: int
    planar: int
    allocated: int
    stored: int
    signed: bool
    photometric: str

    @property
    def promised(self) -> int:
        """Bytes of the unpacked pixels."""
        # Two neighbours share their colour
        samples = 2 if self.photometric == "YBR_FULL_422" and self.is_native else self.samples
        return self.frames * self.shape[0] * self.shape[1] * samples * self.allocated // 8

    @property
    def is_native(self) -> bool:
        """Whether the numbers lie in the file as they are in memory."""
        return self.syntax in (ImplicitVRLittleEndian, ExplicitVRLittleEndian) and self.allocated in (8, 16, 32)

    @property
    def dtype(self) -> str:
        """Numpy name of the stored numbers."""
        return f"{'' if self.signed else 'u'}int{self.allocated}"


@dataclass(frozen=True, slots=True)
class DicomFile:
    """One image file.

    Attributes:
        path: The file.
        bytes: Its size.
        mtime_ns: When it was changed.
        modality: DICOM code as the file says it.
        series: What all files of a series have in common.
        pixels: How its pixels are stored.
        frames: Its slices; none where their places are not known.
        problem: Why they are not known.
        slope: Rescale slope of a file without slices.
        intercept: Rescale intercept of a file without slices.
        pixel_spacing: (2,) millimetres between rows, then between columns, of a file without slices.
    """

    path: Path
    bytes: int
    mtime_ns: int
    modality: str
    series: tuple[str, str]
    pixels: Pixels
    frames: tuple[Frame, ...]
    problem: DataError | None
    slope: float
    intercept: float
    pixel_spacing: tuple[float, float] | None

    @property
    def is_flat(self) -> bool:
        """Whether it is a 2D image of its own: a projection or photograph without slice geometry."""
        return not self.frames and self.pixels.frames == 1 and self.modality in FLAT_MODALITIES


def is_dicom(path: Path) -> bool:
    """Whether a file carries the DICOM prefix."""
    with path.open("rb") as file:
        file.seek(MAGIC_OFFSET)
        return file.read(4) == b"DICM"


@contextmanager
def quiet() -> Iterator[None]:
    """Keep pydicom from saying in warnings what a header says."""
    with pydicom.config.disable_value_validation(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def reading(path: Path, what: str) -> AbstractContextManager[None]:
    """Raise every failure of the block as a `DataError` without a word of the header, and without its traceback."""
    return one_line(path, what, chained=False)


def bare(error: DataError) -> DataError:
    """Return an error to keep: without the traceback that would keep the header in memory."""
    return DataError(error.what, where=error.where, fix=error.fix)


def read_file(path: Path) -> tuple[DicomFile, Any]:
    """Read the header of one file; call it within `quiet`.

    Returns:
        The facts that grouping and reading need, and the pydicom data set with `HEADER_TAGS`.

    Raises:
        DataError: The file is no image of a patient, is damaged, or promises more pixels than it can hold.
    """
    with reading(path, "not readable as DICOM"), BufferedReader(FileIO(path), BUFFER_BYTES) as file:
        status = os.fstat(file.fileno())
        # Old files without the prefix are read as well; what is no DICOM at all then has no rows.
        with _inflation_limit(file.peek()):
            dataset = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=list(HEADER_TAG_NUMBERS), force=True)
        _refuse_what_is_no_scan(dataset, path)
        pixels = _pixels(dataset, file, status.st_size)
        if not all(pixels.shape):
            raise DataError("not a scan: DICOM without an image" if is_dicom(path) else "not a DICOM file", where=path)
    frames, problem = _frames(dataset, path)
    with reading(path, "not readable as DICOM"):
        modality = words(dataset, "Modality")
        if not frames:
            _refuse_screens(dataset, path)
        _check_promise(pixels, status.st_size, path)
        return DicomFile(
            path=path,
            bytes=status.st_size,
            mtime_ns=status.st_mtime_ns,
            modality=modality,
            series=(words(dataset, "SeriesInstanceUID"), words(dataset, "PatientID")),
            pixels=pixels,
            frames=frames,
            problem=problem,
            slope=(*numbers(dataset, "RescaleSlope"), 1.0)[0],
            intercept=number(dataset, "RescaleIntercept") or 0.0,
            pixel_spacing=_pixel_spacing(dataset),
        ), dataset


def _inflation_limit(start: bytes) -> AbstractContextManager[None]:
    """Hold back a deflated file, which pydicom inflates as a whole, from filling the memory."""
    is_deflated = DeflatedExplicitVRLittleEndian.encode() in start
    return limited_memory(MOST_MEMORY) if is_deflated else nullcontext()


def _check_promise(pixels: Pixels, file_bytes: int, path: Path) -> None:
    """Refuse an image that cannot be what the header says, before memory is taken for it.

    Raises:
        DataError: There are no pixels, fewer than the header says, or absurdly many.
    """
    fix = "copy or export the file again"
    if pixels.offset < 0:
        raise DataError("truncated: no pixels", where=path, fix=fix)
    if not pixels.promised:
        raise DataError("damaged: the header promises no pixels", where=path, fix=fix)
    if pixels.is_native or pixels.syntax == ExplicitVRBigEndian:
        check_promise(pixels.promised, min(pixels.length, bytes_there(path) - pixels.offset), path)
    elif pixels.promised > max(LARGEST_PROMISE, LARGEST_RATIO * file_bytes):
        raise DataError(f"too large: {pixels.promised} bytes unpacked from {file_bytes}", where=path, fix=fix)


def _pixels(dataset: Any, file: BinaryIO, file_bytes: int) -> Pixels:
    allocated = whole(dataset, "BitsAllocated", 16)
    syntax = _syntax(dataset)
    offset, length = _place_of_pixels(file, file_bytes, syntax)
    return Pixels(
        offset=offset,
        length=length,
        syntax=syntax,
        frames=whole(dataset, "NumberOfFrames", 1) or 1,
        shape=(whole(dataset, "Rows"), whole(dataset, "Columns")),
        samples=whole(dataset, "SamplesPerPixel", 1) or 1,
        planar=whole(dataset, "PlanarConfiguration"),
        allocated=allocated,
        stored=min(whole(dataset, "BitsStored", allocated) or allocated, allocated),
        signed=whole(dataset, "PixelRepresentation") == 1,
        photometric=words(dataset, "PhotometricInterpretation"),
    )


def _syntax(dataset: Any) -> str:
    said = str(getattr(dataset.file_meta, "TransferSyntaxUID", ""))
    is_implicit, is_little = dataset.original_encoding
    # Files that name one plain encoding and use the other are read as what they are.
    is_plain = said in ("", ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian)
    if not is_plain:
        return said
    return str(ImplicitVRLittleEndian if is_implicit else ExplicitVRLittleEndian if is_little else ExplicitVRBigEndian)


def _place_of_pixels(file: BinaryIO, file_bytes: int, syntax: str) -> tuple[int, int]:
    """Return where the value of the pixel data begins and how long it is; pydicom has stopped before its tag."""
    if pydicom.uid.UID(syntax).is_deflated:
        return 0, file_bytes
    begin, head = file.tell(), file.read(12)
    order, tag = (">", b"\x7f\xe0\x00\x10") if syntax == ExplicitVRBigEndian else ("<", b"\xe0\x7f\x10\x00")
    if len(head) < 12 or head[:4] != tag:
        return -1, 0
    # Lengths are even and these letters are odd, so that no implicit length looks like them
    at = 8 if head[4:6] in _LONG_FORMS else 4
    length = struct.unpack_from(f"{order}I", head, at)[0]
    begin += at + 4
    return begin, file_bytes - begin if length == UNKNOWN_LENGTH else length


def _refuse_what_is_no_scan(dataset: Any, path: Path) -> None:
    sop_class = words(dataset, "SOPClassUID") or str(getattr(dataset.file_meta, "MediaStorageSOPClassUID", ""))
    if is_directory(sop_class):
        raise DataError("DICOMDIR: the files it lists are read themselves", where=path)
    if reason := why_no_scan(sop_class, words(dataset, "Modality")):
        raise DataError(f"not a scan: DICOM {reason}", where=path)


def _refuse_screens(dataset: Any, path: Path) -> None:
    keywords = ("SOPClassUID", "Modality", "ImageType", "BurnedInAnnotation")
    if reason := why_no_picture(*(words(dataset, keyword) for keyword in keywords)):
        raise DataError(f"not a scan: DICOM {reason}", where=path)


def _frames(dataset: Any, path: Path) -> tuple[tuple[Frame, ...], DataError | None]:
    try:
        with reading(path, "no geometry: damaged numbers"):
            if "MOSAIC" in words(dataset, "ImageType").upper().split("\\"):
                raise DataError("mosaic: slices tiled in one picture", where=path, fix="convert the series to NIfTI")
            frames = tuple(frames_of(dataset, path))
            return (() if _is_projection(dataset, frames) else frames), None
    except DataError as problem:
        return (), bare(problem)


def _is_projection(dataset: Any, frames: Sequence[Frame]) -> bool:
    """Whether a position is given for a picture that has no thickness."""
    return len(frames) == 1 and frames[0].thickness is None and words(dataset, "Modality") in FLAT_MODALITIES


def _pixel_spacing(dataset: Any) -> tuple[float, float] | None:
    for keyword in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
        found = numbers(dataset, keyword)
        if len(found) == 2 and min(found) > 0:
            return found[0], found[1]
    return None
