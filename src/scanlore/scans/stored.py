"""A volume that lies in its file as one plain array: what NIfTI, MGZ and Analyze have in common."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from scanlore.errors import DataError
from scanlore.scans.geometry import volume_scan
from scanlore.scans.header import Header, volume_header
from scanlore.scans.limits import bytes_there, check_promise
from scanlore.scans.packed import is_packed, read_voxels
from scanlore.scans.rescale import rescale
from scanlore.scans.scan import FloatArray, Scan

Settle = Callable[[], tuple[FloatArray, tuple[str, ...]]]

_ERROR_LEVEL = 40

# What nibabel finds odd in a header and reads all the same
_unheard = logging.Logger("nibabel", logging.CRITICAL + 1)


@dataclass(frozen=True)
class StoredVolume:
    """What a header says.

    Attributes:
        format: As in `Header`.
        path: The file that holds the voxels, unpacked on the way if its name says so.
        offset: Bytes before the voxels, after unpacking.
        dtype: Of the stored numbers.
        shape: Of the volume in the file's axis order, the first axis running fastest.
        num_channels: Length of the axis behind those of the volume.
        scale: Slope and intercept; `None` for 1 and 0.
        affine: (4, 4) of the file, already checked.
        problems: As in `Scan`.
    """

    format: str
    path: Path
    offset: int
    dtype: np.dtype[Any]
    shape: tuple[int, int, int]
    num_channels: int
    scale: tuple[float | None, float | None]
    affine: FloatArray
    problems: tuple[str, ...]


def read_volume(volume: StoredVolume) -> Scan:
    """Read the voxels.

    Raises:
        DataError: They are not all there.
    """
    stored = read_voxels(volume.path, volume.offset, volume.dtype, (*volume.shape, volume.num_channels))
    slope, intercept = volume.scale
    voxels = rescale(stored, 1.0 if slope is None else float(slope), 0.0 if intercept is None else float(intercept))
    return volume_scan(np.moveaxis(voxels, -1, 0), volume.affine, problems=volume.problems)


def stored_header(volume: StoredVolume) -> Header:
    """Return the header, when the size of the file bears out what it promises.

    Raises:
        DataError: It cannot hold the voxels.
    """
    num_voxels = volume.num_channels * int(np.prod(volume.shape, dtype=object))
    promised = volume.offset + num_voxels * volume.dtype.itemsize
    check_promise(promised, bytes_there(volume.path), volume.path, is_packed=is_packed(volume.path))
    dtype = volume.dtype.newbyteorder("=").name
    return volume_header(volume.format, volume.shape, volume.num_channels, volume.affine, dtype, volume.problems)


def parsed(kind: Any, start: bytes) -> Any:
    """Return the nibabel header of a kind from the first bytes of a file.

    Raises:
        HeaderDataError: It is damaged.
    """
    header = kind(start[: kind.template_dtype.itemsize], check=False)
    header.check_fix(logger=_unheard, error_level=_ERROR_LEVEL)
    return header


def nifti_like(file_format: str, header: Any, path: Path, voxels_in: Path, settle: Settle) -> StoredVolume:
    """Return what a nibabel header of the Analyze family says.

    Args:
        file_format: As in `Header`.
        header: Of nibabel.
        path: The file it was read from.
        voxels_in: The file that holds the voxels.
        settle: Returns affine and problems; called when everything else is right.

    Raises:
        DataError: Voxels or shape are none of a volume, or what `settle` raises.
    """
    check_real(header.get_data_dtype(), path)
    shape, num_channels = layout_of(header.get_data_shape(), path)
    affine, problems = settle()
    return StoredVolume(
        format=file_format,
        path=voxels_in,
        offset=header.get_data_offset(),
        dtype=header.get_data_dtype(),
        shape=shape,
        num_channels=num_channels,
        scale=header.get_slope_inter(),
        affine=affine,
        problems=problems,
    )


def layout_of(shape: tuple[int, ...], path: Path) -> tuple[tuple[int, int, int], int]:
    """Return the spatial shape and the number of channels of a file whose later axes are time or channels.

    Raises:
        DataError: The shape is empty, or more than one axis follows the three of the volume.
    """
    x, y, z, *others = (*shape, 1, 1)[: max(3, len(shape))]
    long = [size for size in others if size != 1]
    listed = " x ".join(map(str, shape))
    if len(shape) < 2 or min(shape) < 1:
        raise DataError(f"not a volume: its shape is {listed or 'empty'}", where=path)
    if len(long) > 1:
        fix = "split it into 3D or 4D files"
        raise DataError(f"more than one axis beyond the volume: shape {listed}", where=path, fix=fix)
    return (x, y, z), (long[0] if long else 1)


def check_real(dtype: npt.DTypeLike, path: Path) -> None:
    """Refuse voxels that are not real numbers.

    Raises:
        DataError: They are colours or complex numbers.
    """
    known = np.dtype(dtype)
    if known.fields is not None:
        raise DataError("colour: volumes of colours are not scans", where=path, fix="convert to one channel per colour")
    if known.kind not in "iuf":
        raise DataError(f"complex voxels: {known.name} are not real numbers", where=path, fix="store the magnitude")
