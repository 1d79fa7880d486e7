"""DICOM: which files of a folder make a scan, and reading one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from scanlore.errors import DataError
from scanlore.scans.dicom_file import DicomFile, bare, is_dicom, quiet, reading
from scanlore.scans.dicom_group import EXTENSIONS, files_of, group_dicom, place_of, series_of, stack_of_files
from scanlore.scans.dicom_pixels import is_colour, read_colour, read_grey
from scanlore.scans.dicom_volume import read_volume
from scanlore.scans.geometry import volume_scan
from scanlore.scans.header import Header
from scanlore.scans.metadata import Metadata
from scanlore.scans.rescale import rescale
from scanlore.scans.scan import Array, Geometry, Scan

__all__ = ["EXTENSIONS", "dicom_header", "dicom_series", "group_dicom", "is_dicom", "read_dicom_series"]


def dicom_series(folder: Path) -> tuple[list[list[Path]], list[tuple[Path, str]]]:
    """Group the DICOM files of one folder, without its subfolders, into scans.

    Args:
        folder: The folder; hidden files are ignored.

    Returns:
        As `group_dicom`.
    """
    return group_dicom(path for path in sorted(folder.iterdir()) if path.is_file() and not path.name.startswith("."))


def read_dicom_series(files: Sequence[Path], salt: bytes | None = None) -> Scan:
    """Read the files of one scan in any order.

    Voxels are rescaled slice by slice. Several slices at each position become channels, copies are left out, and slices
    of a tilted gantry are resampled to a rectangular grid. A projection or photograph of one frame becomes a 2D image.

    Args:
        files: The slices, one multi-frame file, or one picture.
        salt: Secret of the project; without it the hashes of the metadata stay unknown.

    Raises:
        DataError: The files cannot be read or decompressed, have no geometry, lie unevenly or are missing, or are
            coloured slices; nothing of the header is in its words.
    """
    where = place_of(files)
    with quiet(), reading(where, "not readable as DICOM"):
        identity, read = files_of(files)
        metadata = identity.hashed(salt)
        if read[0].is_flat and len(read) == 1:
            return _picture(read[0], metadata)
        volume, stack = read_volume(stack_of_files(read), {file.path: file.pixels for file in read}, where)
        return volume_scan(volume.transpose(0, 3, 2, 1), stack.affine, metadata=metadata, problems=stack.problems)


def dicom_header(files: Sequence[Path], salt: bytes | None = None) -> Header:
    """Read the headers of the files of one scan.

    Args:
        files: As in `read_dicom_series`.
        salt: As in `read_dicom_series`.

    Raises:
        DataError: As `read_dicom_series`, as far as the headers show it.
    """
    series = series_of(files)
    if isinstance(series.header, DataError):
        raise bare(series.header)
    return replace(series.header, metadata=series.identity.hashed(salt))


def _picture(file: DicomFile, metadata: Metadata) -> Scan:
    with reading(file.path, "the pixels cannot be read"):
        voxels = read_colour(file.path, file.pixels) if is_colour(file.pixels) else _grey_picture(file)
    return Scan(
        voxels=voxels,
        affine=None,
        spacing=file.pixel_spacing,
        through_axis=None,
        original=Geometry(shape=file.pixels.shape, affine=None, axes=((0, 1), (1, 1))),
        metadata=metadata,
    )


def _grey_picture(file: DicomFile) -> Array:
    voxels: Array = np.empty((1, *file.pixels.shape), file.pixels.dtype)
    read_grey(file.path, file.pixels, {0: voxels[0]})
    return rescale(voxels, file.slope, file.intercept)
