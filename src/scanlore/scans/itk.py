"""NRRD and MetaImage files, read by ITK when their text has been checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk  # noqa: N813

from scanlore.errors import DataError
from scanlore.scans.failures import one_line
from scanlore.scans.geometry import AssumedSpacing, settled_affine, volume_scan
from scanlore.scans.header import Header, volume_header
from scanlore.scans.image2d import image_scan
from scanlore.scans.itk_text import LONGEST_TEXT, ItkText, parse_text
from scanlore.scans.limits import bytes_there, check_promise
from scanlore.scans.packed import inflated_size
from scanlore.scans.scan import Array, FloatArray, Scan

_READERS = {"nrrd": "NrrdImageIO", "metaimage": "MetaImageIO"}
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_COLOURS = (3, 4)

# What ITK warns of on standard error quotes the file
sitk.ProcessObject.GlobalWarningDisplayOff()


def read_itk(path: Path, assume: AssumedSpacing | None = None) -> Scan:
    """Read a `.nrrd`, `.nhdr`, `.mha` or `.mhd` file.

    The fourth axis or the components of vectors become the channels. Its geometry is that of ITK, from LPS to RAS+.

    Args:
        path: The file with the text.
        assume: Voxel sizes where there is no usable geometry.

    Raises:
        DataError: The file is broken, has no geometry, holds colours in 3D, or names other files than one beside it.
    """
    with one_line(path, "not a readable NRRD or MetaImage file"):
        text, reader = _opened(path)
        if _num_axes(reader) == 2:
            return image_scan(_channels_first(_executed(text, reader, path)), _pixel_size(text, reader))
        affine, problems = _settled(text, reader, path, assume)
        voxels = _channels_first(_executed(text, reader, path))
    return volume_scan(voxels.transpose(0, 3, 2, 1), affine, problems=problems)


def itk_header(path: Path, assume: AssumedSpacing | None = None) -> Header:
    """Read the header of a `.nrrd`, `.nhdr`, `.mha` or `.mhd` file.

    Raises:
        DataError: As `read_itk`, as far as the header and the size of the file show it.
    """
    with one_line(path, "not a readable NRRD or MetaImage file"):
        text, reader = _opened(path)
        x, y, *others = reader.GetSize()
        dtype, num_components = _dtype(reader).name, reader.GetNumberOfComponents()
        if _num_axes(reader) == 2:
            return Header(text.format, (y, x), num_components, _pixel_size(text, reader), None, dtype)
        affine, problems = _settled(text, reader, path, assume)
        num_channels = num_components * (others[1] if len(others) > 1 else 1)
        return volume_header(text.format, (x, y, others[0]), num_channels, affine, dtype, problems)


def _opened(path: Path) -> tuple[ItkText, Any]:
    """Return the text and an ITK reader that has read it, when the voxels can be what they say."""
    with path.open("rb") as file:
        text = parse_text(path, file.read(LONGEST_TEXT))
    data = _data_file(text, path)
    if not data.is_file():
        raise DataError("missing data file: the voxels lie in a file that is not there", where=path)
    reader = sitk.ImageFileReader()
    reader.SetImageIO(_READERS[text.format])
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    there = bytes_there(data) - text.offset
    check_promise(text.num_packed, there, path)
    check_promise(_num_bytes(reader), there, path, is_packed=text.is_packed)
    _check_kind(text, reader, path)
    return text, reader


def _executed(text: ItkText, reader: Any, path: Path) -> Any:
    """Read the voxels. ITK takes whatever comes of damaged compression, so that it is tried before."""
    if text.is_deflated:
        with _data_file(text, path).open("rb") as file:
            file.seek(text.offset)
            size = inflated_size(file, text.num_packed or bytes_there(Path(file.name)), _num_bytes(reader))
        check_promise(_num_bytes(reader), size, path)
    return reader.Execute()


def _data_file(text: ItkText, path: Path) -> Path:
    return path.with_name(text.data_file) if text.data_file else path


def _num_bytes(reader: Any) -> int:
    num_values = int(np.prod(reader.GetSize(), dtype=object)) * int(reader.GetNumberOfComponents())
    return num_values * _dtype(reader).itemsize


def _check_kind(text: ItkText, reader: Any, path: Path) -> None:
    """Refuse voxels that are no scan."""
    num_components, num_axes = reader.GetNumberOfComponents(), _num_axes(reader)
    listed = " x ".join(map(str, reader.GetSize()))
    if num_axes not in (2, 3, 4) or min(reader.GetSize()) < 1:
        raise DataError(f"not a volume: its shape is {listed}", where=path)
    if num_axes == 4 and num_components > 1:
        raise DataError(f"more than one axis beyond the volume: shape {listed} of {num_components}", where=path)
    is_colour = text.is_colour or (_dtype(reader) == np.uint8 and num_components in _COLOURS)
    if is_colour and num_axes > 2:
        fix = "convert to one channel per colour"
        raise DataError("colour: volumes of colours are not scans", where=path, fix=fix)


def _num_axes(reader: Any) -> int:
    return int(reader.GetDimension())


def _dtype(reader: Any) -> np.dtype[Any]:
    """Return the type of a component.

    Raises:
        DataError: Its values are not real numbers.
    """
    name = sitk.GetPixelIDValueAsString(reader.GetPixelIDValue())
    bits = next((bits for bits in ("8", "16", "32", "64") if bits in name.split("-")[0]), None)
    if "complex" in name or "label" in name or bits is None:
        raise DataError("complex voxels: not real numbers", where=reader.GetFileName(), fix="store the magnitude")
    kind = "float" if "float" in name else "uint" if "unsigned" in name else "int"
    return np.dtype(f"{kind}{bits}")


def _channels_first(image: Any) -> Array:
    """Return `(C, *spatial)` with the axes as ITK's arrays have them: the first of the file is the last."""
    array: npt.NDArray[Any] = sitk.GetArrayFromImage(image)
    if image.GetNumberOfComponentsPerPixel() > 1:
        return np.moveaxis(array, -1, 0)
    return array if array.ndim == 4 else array[None]


def _pixel_size(text: ItkText, reader: Any) -> tuple[float, float] | None:
    """Return mm between rows, then between columns, of a 2D image that states them."""
    across, down = reader.GetSpacing()
    return (float(down), float(across)) if text.has_spacing else None


def _settled(
    text: ItkText, reader: Any, path: Path, assume: AssumedSpacing | None
) -> tuple[FloatArray, tuple[str, ...]]:
    """Return the affine of the volume's three axes in RAS+ space, and what was assumed for it."""
    num_axes = _num_axes(reader)
    directions = np.array(reader.GetDirection(), float).reshape(num_axes, num_axes)[:3, :3]
    stated = np.array(reader.GetSpacing(), float)[:3]
    affine = np.eye(4)
    affine[:3, :3] = directions * stated
    affine[:3, 3] = reader.GetOrigin()[:3]
    sizes = stated.tolist() if text.has_spacing else [np.nan] * 3
    settled, problems = settled_affine(
        None if text.missing else _LPS_TO_RAS @ affine, sizes, assume, path, text.missing or ""
    )
    return settled, (*problems, text.note) if text.note else problems
