"""2D images: PNG, JPEG and single-page TIFF. They have no geometry: resolution tags are not trusted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image

from scanlore.errors import DataError
from scanlore.scans.failures import one_line
from scanlore.scans.header import Header
from scanlore.scans.scan import Array, Geometry, Scan

_GREY_MODES = ("1", "L", "LA", "La")
_DEEP_MODES = ("I", "F")
_PILLOW_READS = "requires the 'imagecodecs' package"


def read_image2d(path: Path) -> Scan:
    """Read a PNG, JPEG or TIFF file.

    16-bit and float values are kept, palettes become colours, transparency is dropped, and a colour image whose
    channels are all equal becomes one channel.

    Args:
        path: The file; its extension says the format.

    Raises:
        DataError: The file is damaged, suspiciously large when unpacked, or has several pages.
    """
    with one_line(path, "not a readable image"):
        voxels = _tiff_pixels(path) if _is_tiff(path) else _pillow_pixels(path)
    if len(voxels) == 3 and (voxels[0] == voxels[1]).all() and (voxels[0] == voxels[2]).all():
        voxels = voxels[:1]
    height, width = voxels.shape[1:]
    original = Geometry(shape=(height, width), affine=None, axes=((0, 1), (1, 1)))
    return Scan(voxels=voxels, affine=None, spacing=None, through_axis=None, original=original)


def image2d_header(path: Path) -> Header:
    """Read size, channels and type of a PNG, JPEG or TIFF file without unpacking it.

    Raises:
        DataError: The file is damaged or has several pages.
    """
    with one_line(path, "not a readable image"):
        if _is_tiff(path):
            with tifffile.TiffFile(path) as tiff:
                page = _only_page(tiff, path)
                shape, num_channels = (page.imagelength, page.imagewidth), _tiff_channels(page)
                return Header("tiff", shape, num_channels, None, None, str(page.dtype))
        with _open(path) as image:
            num_channels = Image.getmodebands(_plain_mode(image))
            dtype = "uint16" if image.mode.startswith("I") else "float32" if image.mode == "F" else "uint8"
            name = "jpeg" if image.format in ("JPEG", "MPO") else str(image.format).lower()
            return Header(name, (image.height, image.width), num_channels, None, None, dtype)


def _is_tiff(path: Path) -> bool:
    return path.suffix.lower() in (".tif", ".tiff")


def _open(path: Path) -> Image.Image:
    image = Image.open(path)
    # A phone's JPEG may carry a preview as second picture (MPO); the first one is the image.
    if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
        image.close()
        raise _several_pages(path)
    return image


def _several_pages(path: Path) -> DataError:
    return DataError(
        "the image has several pages", where=path, fix="save one file per page, or a volume as NIfTI with its spacing"
    )


def _plain_mode(image: Image.Image) -> str:
    """Return the Pillow mode that keeps the values and drops palette and transparency."""
    if image.mode in _GREY_MODES:
        return "L"
    return image.mode if image.mode[0] in _DEEP_MODES else "RGB"


def _pillow_pixels(path: Path) -> Array:
    with _open(path) as image:
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


def _only_page(tiff: Any, path: Path) -> Any:
    if len(tiff.pages) != 1:
        raise _several_pages(path)
    return tiff.pages[0]


def _tiff_channels(page: Any) -> int:
    if page.photometric == tifffile.PHOTOMETRIC.PALETTE:
        return 3
    return int(page.samplesperpixel) - _num_alpha(page)


def _num_alpha(page: Any) -> int:
    return sum(extra != tifffile.EXTRASAMPLE.UNSPECIFIED for extra in page.extrasamples)


def _tiff_pixels(path: Path) -> Array:
    with tifffile.TiffFile(path) as tiff:
        page = _only_page(tiff, path)
        try:
            pixels = page.asarray()
        except ValueError as error:
            if _PILLOW_READS not in str(error):
                raise
            return _pillow_pixels(path)
        if page.photometric == tifffile.PHOTOMETRIC.PALETTE:
            # TIFF palettes have 16 bits per colour; 8 are what they were made from.
            return np.asarray((page.colormap >> 8).astype(np.uint8)[:, pixels])
        if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE and pixels.dtype.kind == "u":
            pixels = pixels.dtype.type(2**page.bitspersample - 1) - pixels
        if pixels.dtype == bool:
            pixels = pixels.astype(np.uint8) * np.uint8(255)
        voxels = _channels_first(pixels, page.axes.endswith("S"))
        return voxels[: len(voxels) - _num_alpha(page)]
