"""2D images: PNG, JPEG and the pages of TIFF. They have no geometry: resolution tags are not trusted."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image

from scanlore.errors import DataError
from scanlore.scans.failures import one_line
from scanlore.scans.header import Header
from scanlore.scans.limits import LARGE, MOST_INFLATION, bytes_there, check_promise
from scanlore.scans.packed import inflated_size
from scanlore.scans.scan import Array, Geometry, Scan

TIFF_ENDINGS = (".tif", ".tiff")
_GREY_MODES = ("1", "L", "LA", "La")
_DEEP_MODES = ("I", "F")
_FORMATS = ("PNG", "JPEG", "TIFF")
_DEFLATED = (tifffile.COMPRESSION.DEFLATE, tifffile.COMPRESSION.ADOBE_DEFLATE)
_READ_BY_TIFFFILE = (tifffile.COMPRESSION.NONE, tifffile.COMPRESSION.PACKBITS, *_DEFLATED)

# What tifffile logs can quote the file, so it must not reach a log of ours
logging.getLogger("tifffile").addHandler(logging.NullHandler())
logging.getLogger("tifffile").propagate = False


def read_image2d(path: Path, page: int = 1) -> Scan:
    """Read a PNG, JPEG or TIFF file.

    16-bit and float values are kept, palettes become colours, transparency is dropped, and a colour image whose
    channels are all equal becomes one channel.

    Args:
        path: The file; its extension says the format.
        page: Number of the page of a TIFF file, from 1.

    Raises:
        DataError: The file is damaged, promises more than it can hold, or is a PNG or JPEG of several pictures.
    """
    with _reading(path):
        return image_scan(_tiff_pixels(path, page) if is_tiff(path) else _pillow_pixels(path, page))


def image2d_header(path: Path, page: int = 1) -> Header:
    """Read size, channels and type of a PNG, JPEG or TIFF file without unpacking it.

    Raises:
        DataError: As `read_image2d`, as far as the header shows it.
    """
    with _reading(path):
        if is_tiff(path):
            with tifffile.TiffFile(path) as tiff:
                found = _page(tiff, page, path)
                shape = (found.imagelength, found.imagewidth)
                return Header("tiff", shape, _tiff_channels(found), None, None, str(found.dtype))
        with _open(path, page) as image:
            num_channels = Image.getmodebands(_plain_mode(image))
            dtype = "uint16" if image.mode.startswith("I") else "float32" if image.mode == "F" else "uint8"
            name = "jpeg" if image.format in ("JPEG", "MPO") else str(image.format).lower()
            return Header(name, (image.height, image.width), num_channels, None, None, dtype)


def image_scan(voxels: Array, spacing: tuple[float, float] | None = None) -> Scan:
    """Make the scan of a 2D image; equal colours become one channel.

    Args:
        voxels: `(C, H, W)`.
        spacing: mm between rows, then between columns, where it is known.
    """
    if len(voxels) == 3 and (voxels[0] == voxels[1]).all() and (voxels[0] == voxels[2]).all():
        voxels = voxels[:1]
    height, width = voxels.shape[1:]
    original = Geometry(shape=(height, width), affine=None, axes=((0, 1), (1, 1)))
    return Scan(voxels=voxels, affine=None, spacing=spacing, through_axis=None, original=original)


def is_tiff(path: Path) -> bool:
    """Whether a file is called a TIFF."""
    return path.name.lower().endswith(TIFF_ENDINGS)


def num_pages(path: Path) -> int:
    """Return the number of pages of a TIFF file; 1 where it is damaged, which reading then tells."""
    try:
        with tifffile.TiffFile(path) as tiff:
            return max(1, len(tiff.pages))
    except Exception:
        return 1


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        with one_line(path, "not a readable image"):
            yield
    except DataError as error:
        if isinstance(error.__cause__, Image.DecompressionBombError):
            raise DataError("too large: more pixels than an image has", where=path) from None
        raise


def _open(path: Path, page: int) -> Image.Image:
    image = Image.open(path, formats=_FORMATS)
    if is_tiff(path):
        image.seek(page - 1)
    # A phone's JPEG may carry a preview as second picture (MPO); the first one is the image.
    elif image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
        image.close()
        raise DataError("several pictures in one file", where=path, fix="save one file per picture")
    deep = 4 if image.mode[0] in _DEEP_MODES else 1
    promised = image.height * image.width * len(image.getbands()) * deep
    check_promise(promised // 8 if image.mode == "1" else promised, bytes_there(path), path, is_packed=True)
    return image


def _plain_mode(image: Image.Image) -> str:
    """Return the Pillow mode that keeps the values and drops palette and transparency."""
    if image.mode in _GREY_MODES:
        return "L"
    return image.mode if image.mode[0] in _DEEP_MODES else "RGB"


def _pillow_pixels(path: Path, page: int) -> Array:
    with _open(path, page) as image:
        mode = _plain_mode(image)
        pixels: npt.NDArray[Any] = np.array(image if image.mode == mode else image.convert(mode))
        if image.format == "PNG" and mode == "I":  # older Pillow widens 16-bit PNG to 32 bits
            pixels = pixels.astype(np.uint16)
    return _channels_first(pixels, pixels.ndim == 3)


def _channels_first(pixels: npt.NDArray[Any], channels_last: bool) -> Array:
    pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    if pixels.ndim == 2:
        return pixels[None]
    return np.ascontiguousarray(np.moveaxis(pixels, -1, 0)) if channels_last else pixels


def _page(tiff: Any, number: int, path: Path) -> Any:
    """Return a page whose bytes are there."""
    if number > len(tiff.pages):
        raise DataError(f"truncated: {len(tiff.pages)} pages where {number} were found", where=path)
    page = tiff.pages[number - 1]
    there = min(sum(page.databytecounts), bytes_there(path))
    is_packed = page.compression != tifffile.COMPRESSION.NONE
    check_promise(page.nbytes * page.bitspersample // (8 * page.dtype.itemsize), there, path, is_packed=is_packed)
    return page


def _check_strips(page: Any, path: Path) -> None:
    """Refuse strips that hold more than the page says: nothing else bounds what they unpack to."""
    with path.open("rb") as file:
        for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
            if count * MOST_INFLATION > LARGE:
                file.seek(offset)
                size = inflated_size(file, count, 2 * page.nbytes)
                check_promise(size, 2 * page.nbytes, path)


def _tiff_channels(page: Any) -> int:
    if page.photometric == tifffile.PHOTOMETRIC.PALETTE:
        return 3
    return int(page.samplesperpixel) - _num_alpha(page)


def _num_alpha(page: Any) -> int:
    return sum(extra != tifffile.EXTRASAMPLE.UNSPECIFIED for extra in page.extrasamples)


def _tiff_pixels(path: Path, number: int) -> Array:
    with tifffile.TiffFile(path) as tiff:
        page = _page(tiff, number, path)
        if page.compression not in _READ_BY_TIFFFILE:
            return _pillow_pixels(path, number)
        if page.compression in _DEFLATED:
            _check_strips(page, path)
        pixels = page.asarray()
        if page.photometric == tifffile.PHOTOMETRIC.PALETTE:
            # TIFF palettes have 16 bits per colour; 8 are what they were made from.
            return np.asarray((page.colormap >> 8).astype(np.uint8)[:, pixels])
        if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE and pixels.dtype.kind == "u":
            pixels = pixels.dtype.type(2**page.bitspersample - 1) - pixels
        if pixels.dtype == bool:
            pixels = pixels.astype(np.uint8) * np.uint8(255)
        voxels = _channels_first(pixels, page.axes.endswith("S"))
        return voxels[: len(voxels) - _num_alpha(page)]
