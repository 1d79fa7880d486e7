"""The stored numbers of a DICOM file, decompressed, before any rescaling."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
import SimpleITK as sitk  # noqa: N813
from pydicom.pixels import apply_color_lut, pixel_array
from pydicom.uid import JPEGBaseline8Bit, RLELossless, SecondaryCaptureImageStorage

from scanlore.errors import DataError
from scanlore.scans.dicom_codestream import stated_sizes
from scanlore.scans.dicom_file import MOST_MEMORY, UNKNOWN_LENGTH, Pixels
from scanlore.scans.limits import limited_memory
from scanlore.scans.scan import Array

_PALETTE = "PALETTE COLOR"

DECODER_COPIES = 8
"""How many times the pixels a decoder may take, where this is more than `MOST_MEMORY`."""


def read_grey(path: Path, pixels: Pixels, targets: dict[int, Array]) -> None:
    """Read frames of a grey-level file.

    `MONOCHROME1` (low values are bright) is turned into the usual sense within the range of the stored bits.

    Args:
        path: A classic or multi-frame file, compressed or not.
        pixels: How they are stored.
        targets: For each frame wanted, where it goes: contiguous `(rows, columns)` of a type that holds
            `pixels.dtype`.

    Raises:
        DataError: The image is a colour image, or has other pixels than its header says.
    """
    if pixels.samples != 1 or pixels.photometric == _PALETTE:
        fix = "leave out coloured maps and screen pictures; export the original images"
        raise DataError("colour: volumes have grey values", where=path, fix=fix)
    for index, frame in _stored_frames(path, pixels, targets):
        if pixels.photometric == "MONOCHROME1":
            # Signed numbers are mirrored about -1/2, which is what ~ does; unsigned ones within their stored bits.
            np.invert(frame, out=frame) if pixels.signed else np.subtract(2**pixels.stored - 1, frame, out=frame)
        if frame is not targets[index]:
            targets[index][...] = frame


def read_colour(path: Path, pixels: Pixels) -> Array:
    """Read a colour image of one frame.

    Args:
        path: The file; palettes are applied, and YBR is turned into RGB.
        pixels: How they are stored.

    Returns:
        `(3, rows, columns)` of RGB.

    Raises:
        DataError: The pixels are not those of a colour image.
    """
    colours = _unpacked(path, pixels)
    if pixels.photometric == _PALETTE:
        colours = apply_color_lut(colours, pydicom.dcmread(path, force=True, stop_before_pixels=True))
        # Palettes have 16 bits for each colour; 8 are what they were made from.
        colours = (colours >> 8).astype(np.uint8) if colours.dtype == np.uint16 else colours
    if colours.shape[-3:] != (*pixels.shape, 3):
        raise DataError("damaged: the pixels are not those of the header", where=path)
    return np.ascontiguousarray(np.moveaxis(colours.reshape(*pixels.shape, 3), -1, 0))


def is_colour(pixels: Pixels) -> bool:
    """Whether a file holds colours."""
    return pixels.samples == 3 or pixels.photometric == _PALETTE


def _stored_frames(path: Path, pixels: Pixels, targets: dict[int, Array]) -> Iterator[tuple[int, Array]]:
    """Yield the frames wanted, in their target where its type is the stored one."""
    if pixels.is_native:
        yield from _native_frames(path, pixels, targets)
        return
    unpacked = _unpacked(path, pixels)
    if unpacked.size != pixels.frames * pixels.shape[0] * pixels.shape[1]:
        raise DataError("damaged: the pixels are not those of the header", where=path)
    frames = unpacked.reshape(-1, *pixels.shape).astype(pixels.dtype, copy=False)
    for index in targets:
        yield index, frames[index] if frames.flags.writeable else frames[index].copy()


def _native_frames(path: Path, pixels: Pixels, targets: dict[int, Array]) -> Iterator[tuple[int, Array]]:
    unused = pixels.allocated - pixels.stored
    num_bytes = pixels.promised // pixels.frames
    with path.open("rb", buffering=0) as file:
        for index, target in targets.items():
            frame = target if target.dtype == pixels.dtype else np.empty(pixels.shape, pixels.dtype)
            file.seek(pixels.offset + index * num_bytes)
            if file.readinto(frame.data) != num_bytes:
                raise DataError("truncated: the file ends within its pixels", where=path)
            if unused:
                np.left_shift(frame, unused, out=frame)
                np.right_shift(frame, unused, out=frame)
            yield index, frame


def _unpacked(path: Path, pixels: Pixels) -> npt.NDArray[Any]:
    syntax = pydicom.uid.UID(pixels.syntax)
    by_pydicom = not syntax.is_compressed or syntax == RLELossless
    with limited_memory(max(MOST_MEMORY, DECODER_COPIES * pixels.promised)):
        # Only pydicom looks into JPEG files for their colour space
        if not by_pydicom and not (pixels.samples == 3 and syntax == JPEGBaseline8Bit):
            return _unpacked_by_itk(path, pixels)
        dataset = pydicom.dcmread(path, force=True)
        dataset.file_meta.TransferSyntaxUID = syntax
        return np.asarray(pixel_array(dataset))


def _unpacked_by_itk(path: Path, pixels: Pixels) -> npt.NDArray[Any]:
    """Decompress through a file that holds the pixel description and nothing about the patient.

    Without rescale tags and with a neutral class, the decoder returns stored numbers whatever the modality.
    """
    with path.open("rb") as file:
        file.seek(pixels.offset)
        value = file.read(min(pixels.length, os.fstat(file.fileno()).st_size))
    if any(size != (*pixels.shape, pixels.samples) for size in stated_sizes(value)):
        raise DataError("damaged: the pixels are not those of the header", where=path)
    with NamedTemporaryFile(suffix=".dcm") as bare:
        bare.write(_bare_header(pixels))
        bare.write(value)
        bare.flush()
        reader = sitk.ImageFileReader()
        reader.SetImageIO("GDCMImageIO")
        reader.SetFileName(bare.name)
        with _silent():
            unpacked = np.asarray(sitk.GetArrayFromImage(reader.Execute()))
    return unpacked[0] if unpacked.ndim == 4 else unpacked


def _bare_header(pixels: Pixels) -> bytes:
    """Return a DICOM file up to the value of its pixels."""
    # A palette is applied afterwards, and which end is bright does not matter here
    photometric = pixels.photometric if pixels.samples == 3 else "MONOCHROME2"
    meta = _text(0x0002, 0x0002, "UI", SecondaryCaptureImageStorage) + _text(0x0002, 0x0010, "UI", pixels.syntax)
    parts = [
        bytes(128) + b"DICM" + struct.pack("<HH2sHI", 0x0002, 0x0000, b"UL", 4, len(meta)) + meta,
        _text(0x0008, 0x0016, "UI", SecondaryCaptureImageStorage),
        _text(0x0008, 0x0018, "UI", "2.25.1"),
        _number(0x0002, pixels.samples),
        _text(0x0028, 0x0004, "CS", photometric),
        _number(0x0006, pixels.planar) if pixels.samples == 3 else b"",
        _text(0x0028, 0x0008, "IS", str(pixels.frames)),
        *(_number(0x0010 + place, edge) for place, edge in enumerate(pixels.shape)),
        _number(0x0100, pixels.allocated),
        _number(0x0101, pixels.stored),
        _number(0x0102, pixels.stored - 1),
        _number(0x0103, int(pixels.signed)),
        struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OB", 0, UNKNOWN_LENGTH),
    ]
    return b"".join(parts)


def _text(group: int, element: int, kind: str, value: str) -> bytes:
    padded = value.encode() + (b"" if len(value) % 2 == 0 else b"\0" if kind == "UI" else b" ")
    return struct.pack("<HH2sH", group, element, kind.encode(), len(padded)) + padded


def _number(element: int, value: int) -> bytes:
    return struct.pack("<HH2sHH", 0x0028, element, b"US", 2, value)


@contextmanager
def _silent() -> Iterator[None]:
    """Keep what codecs print off the console: several lines for each file, of no use to anybody."""
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)
