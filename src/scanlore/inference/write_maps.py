"""Colours and maps as NIfTI files with exactly the geometry of their scan."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from nibabel.nifti1 import Nifti1Header

from scanlore.errors import DataError
from scanlore.scans.geometry import from_ras
from scanlore.scans.nifti import write_nifti
from scanlore.scans.scan import Scan

RGB24 = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
KEPT_BITS = np.uint32(0xFFFFE000)
"""Ten bits of a float's fraction: 0.1 %, and files a third of the size."""


def write_colours(path: Path, rgb: npt.NDArray[np.uint8], scan: Scan) -> None:
    """Write the colours of a volume as NIfTI's RGB24, whole or not at all.

    Args:
        path: Ends in `.nii.gz`; its folder exists.
        rgb: `(X, Y, Z, 3)` on the grid of `scan.voxels`.
        scan: Whose geometry the file gets.
    """
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    write_nifti(temporary, np.ascontiguousarray(rgb).view(RGB24)[..., 0], scan)
    temporary.replace(path)


def write_volumes(path: Path, volumes: Iterable[npt.NDArray[np.float32]], num_volumes: int, scan: Scan) -> None:
    """Write volumes one after the other as a 4D file of float32, whole or not at all; one is held at a time.

    Values keep three significant digits.

    Args:
        path: Ends in `.nii.gz`; its folder exists.
        volumes: Each `(X, Y, Z)` on the grid of `scan.voxels`.
        num_volumes: How many they are.
        scan: Whose geometry the file gets.

    Raises:
        DataError: The scan has no geometry.
    """
    affine = scan.original.affine
    if affine is None:
        raise DataError("a 2D image has no geometry to write a NIfTI file with", where=path)
    header = Nifti1Header()
    header.set_data_dtype("<f4")
    header.set_data_shape((*scan.original.shape, num_volumes))
    header.set_sform(affine, code="scanner")
    header.set_qform(affine, code="scanner")
    header.set_xyzt_units(xyz="mm")
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        with gzip.open(temporary, "wb", compresslevel=1) as file:
            header.write_to(file)
            for volume in volumes:
                file.write(from_ras(_rounded(volume), scan.original).tobytes(order="F"))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _rounded(volume: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    bits = np.ascontiguousarray(volume, np.dtype("<f4")).view(np.uint32)
    return (bits & KEPT_BITS).view(np.dtype("<f4"))
