"""NIfTI files: read, and write results with exactly the geometry of a scan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
from nibabel.nifti1 import Nifti1Header, Nifti1PairHeader
from nibabel.nifti2 import Nifti2Header, Nifti2PairHeader

from scanlore.errors import DataError
from scanlore.scans.failures import one_line
from scanlore.scans.geometry import AssumedSpacing, check_affine, from_ras, settled_affine
from scanlore.scans.header import Header
from scanlore.scans.packed import is_packed, read_start
from scanlore.scans.scan import FloatArray, Scan
from scanlore.scans.stored import StoredVolume, nifti_like, parsed, read_volume, stored_header

_MM_PER_UNIT = {"meter": 1000.0, "mm": 1.0, "micron": 0.001, "unknown": 1.0}
_HEADER_SIZES = (348, 540)
_TYPES = {
    b"n+1\0": Nifti1Header,
    b"n+2\0": Nifti2Header,
    b"ni1\0": Nifti1PairHeader,
    b"ni2\0": Nifti2PairHeader,
}


def read_nifti(path: Path, assume: AssumedSpacing | None = None, voxels_in: Path | None = None) -> Scan:
    """Read a `.nii` or `.nii.gz` file, or a pair of `.hdr` and `.img`.

    3D files give one channel; the fourth axis of a 4D file, or the only long one of several extra axes, becomes the
    channels. The affine is the sform, or the qform where the sform is absent or unusable.

    Args:
        path: The file with the header.
        assume: Voxel sizes where there is no usable affine.
        voxels_in: The other file of a pair.

    Raises:
        DataError: The file is broken, has no geometry, more than four long axes, or voxels that are not real numbers.
    """
    with one_line(path, "damaged NIfTI file"):
        return read_volume(_described(path, assume, voxels_in or path))


def nifti_header(path: Path, assume: AssumedSpacing | None = None, voxels_in: Path | None = None) -> Header:
    """Read the header of a NIfTI file.

    Raises:
        DataError: As `read_nifti`, as far as the header and the size of the file show it.
    """
    with one_line(path, "damaged NIfTI file"):
        return stored_header(_described(path, assume, voxels_in or path))


def is_nifti_pair(start: bytes) -> bool:
    """Whether the first bytes of a `.hdr` file are those of a NIfTI pair, not of Analyze."""
    return _magic(start) in (b"ni1\0", b"ni2\0")


def write_nifti(path: Path, voxels: npt.NDArray[Any], scan: Scan, dtype: npt.DTypeLike | None = None) -> None:
    """Write voxels on a scan's grid as a file with exactly the shape and affine of the scan's own file.

    Args:
        path: Ends in `.nii` or `.nii.gz`; its folder exists.
        voxels: `(X, Y, Z)`, or `(C, X, Y, Z)` which is stored with the channels as fourth axis (one channel as 3D).
        scan: Whose grid the voxels lie on.
        dtype: To store; by default that of `voxels`, or the nearest one that NIfTI readers commonly know.

    Raises:
        DataError: The scan has no geometry, or the shape is not the scan's.
    """
    affine = scan.original.affine
    if affine is None:
        raise DataError("a 2D image has no geometry to write a NIfTI file with", where=path, fix="write a PNG instead")
    stored = from_ras(voxels, scan.original)
    if stored.ndim == 4:
        stored = stored[0] if stored.shape[0] == 1 else np.moveaxis(stored, 0, -1)
    stored = stored.astype(_common_dtype(stored) if dtype is None else dtype)
    image = nib.Nifti1Image(stored, affine)
    image.set_sform(affine, code="scanner")
    image.set_qform(affine, code="scanner")
    image.header.set_xyzt_units(xyz="mm")
    nib.save(image, path)


def _common_dtype(voxels: npt.NDArray[Any]) -> npt.DTypeLike:
    """Return the dtype itself, or the nearest that every NIfTI reader knows."""
    if voxels.dtype.kind in "iu" and voxels.dtype.itemsize == 8:
        return np.int32 if np.abs(voxels).max(initial=0) <= np.iinfo(np.int32).max else np.float64
    return {"bool": np.uint8, "float16": np.float32}.get(voxels.dtype.name, voxels.dtype)


def _described(path: Path, assume: AssumedSpacing | None, voxels_in: Path) -> StoredVolume:
    if is_packed(path) and _is_uncompressed(path):
        raise DataError("not a gzip file but a plain NIfTI file", where=path, fix="rename it .nii")
    start = read_start(path, max(_HEADER_SIZES))
    if _magic(start) not in _TYPES:
        raise DataError("not a NIfTI file", where=path)
    header = parsed(_TYPES[_magic(start)], start)
    return nifti_like("nifti", header, path, voxels_in, lambda: _settled(header, path, assume))


def _magic(start: bytes) -> bytes:
    return start[344:348] if _has_size(start, 348) else start[4:8]


def _has_size(start: bytes, size: int) -> bool:
    return any(int.from_bytes(start[:4], order) == size for order in ("little", "big"))


def _is_uncompressed(path: Path) -> bool:
    """Whether a file begins with the length of a NIfTI-1 or NIfTI-2 header."""
    with path.open("rb") as file:
        start = file.read(4)
    return any(_has_size(start, size) for size in _HEADER_SIZES)


def _settled(header: Any, path: Path, assume: AssumedSpacing | None) -> tuple[FloatArray, tuple[str, ...]]:
    """Return the affine in mm, and what had to be worked around or assumed."""
    unusable: list[FloatArray] = []
    problems: list[str] = []
    missing = "no geometry: sform and qform codes are both 0"
    for name in ("sform", "qform"):
        try:
            affine = _coded_affine(header, name, path)
            if affine is not None:
                unusable.append(affine)
                check_affine(affine, path)
                return affine, tuple(problems)
        except DataError as refusal:
            missing = missing if problems else refusal.what
            problems.append(f"the {name} cannot be used")
    stated = [float(edge) * _millimetres(header) for edge in header["pixdim"][1:4]]
    return settled_affine(unusable[0] if unusable else None, stated, assume, path, missing)


def _coded_affine(header: Any, name: str, path: Path) -> FloatArray | None:
    """Return the sform or qform in mm where its code says that it means something."""
    with one_line(path, f"damaged {name}"):
        affine, code = getattr(header, f"get_{name}")(coded=True)
        return np.diag([_millimetres(header)] * 3 + [1.0]) @ affine if code and affine is not None else None


def _millimetres(header: Any) -> float:
    try:
        return _MM_PER_UNIT[header.get_xyzt_units()[0]]
    except KeyError:
        return 1.0
