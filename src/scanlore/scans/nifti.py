"""NIfTI files: read, and write results with exactly the geometry of a scan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt

from scanlore.errors import DataError
from scanlore.scans.failures import one_line
from scanlore.scans.geometry import (
    check_affine,
    from_ras,
    nearest_axes,
    orientation_code,
    spacing_of,
    volume_scan,
)
from scanlore.scans.header import Header
from scanlore.scans.rescale import rescale
from scanlore.scans.scan import FloatArray, Scan

_MM_PER_UNIT = {"meter": 1000.0, "mm": 1.0, "micron": 0.001, "unknown": 1.0}


def read_nifti(path: Path) -> Scan:
    """Read a `.nii` or `.nii.gz` file.

    3D files give one channel; the fourth axis of a 4D file, or the only long one of several extra axes, becomes the
    channels. The affine is the sform, or the qform where the sform is absent or unusable.

    Args:
        path: The file.

    Raises:
        DataError: The file is broken, has no geometry, more than four long axes, or voxels that are not real numbers.
    """
    image = _open(path)
    shape, num_channels = _layout(image, path)
    affine, problems = _file_affine(image.header, path)
    with one_line(path, "the NIfTI file is truncated or damaged"):
        proxy = image.dataobj
        stored = np.asanyarray(proxy.get_unscaled())
        stored = stored.astype(stored.dtype.newbyteorder("="), copy=False)
        voxels = rescale(stored, float(proxy.slope), float(proxy.inter))
    voxels = np.moveaxis(voxels.reshape((*shape, num_channels), order="F"), -1, 0)
    return volume_scan(voxels, affine, problems=problems)


def nifti_header(path: Path) -> Header:
    """Read the header of a `.nii` or `.nii.gz` file.

    Raises:
        DataError: As `read_nifti`, as far as the header shows it.
    """
    image = _open(path)
    shape, num_channels = _layout(image, path)
    affine, _ = _file_affine(image.header, path)
    return Header(
        format="nifti",
        shape=shape,
        num_channels=num_channels,
        spacing=spacing_of(affine),
        orientation=orientation_code(nearest_axes(affine)),
        dtype=image.get_data_dtype().newbyteorder("=").name,
    )


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


def _open(path: Path) -> Any:
    with one_line(path, "not a readable NIfTI file"):
        if path.name.lower().endswith(".gz") and _is_uncompressed(path):
            raise DataError("not a gzip file but a plain NIfTI file", where=path, fix="rename it .nii")
        image = nib.load(path, mmap=False)
        if not isinstance(image, nib.Nifti1Image):
            raise DataError("not a NIfTI file", where=path)
    if image.get_data_dtype().fields is not None:
        raise DataError("colour (RGB) NIfTI files are not scans", where=path, fix="convert to one channel per colour")
    if image.get_data_dtype().kind not in "iuf":
        kind = image.get_data_dtype().name
        raise DataError(f"voxels of type {kind} are not real numbers", where=path, fix="store the magnitude")
    return image


def _is_uncompressed(path: Path) -> bool:
    """Whether a file begins with the length of a NIfTI-1 or NIfTI-2 header."""
    with path.open("rb") as file:
        start = file.read(4)
    return any(int.from_bytes(start, order) in (348, 540) for order in ("little", "big"))


def _layout(image: Any, path: Path) -> tuple[tuple[int, int, int], int]:
    """Return the spatial shape and the number of channels."""
    x, y, z, *others = (*image.shape, 1, 1)[: max(3, len(image.shape))]
    long = [size for size in others if size != 1]
    if len(image.shape) < 2 or 0 in image.shape:
        raise DataError(f"not the shape of a volume: {image.shape}", where=path)
    if len(long) > 1:
        raise DataError(
            f"more than one axis beyond the volume: shape {image.shape}",
            where=path,
            fix="split it into 3D or 4D files",
        )
    return (x, y, z), (long[0] if long else 1)


def _file_affine(header: Any, path: Path) -> tuple[FloatArray, tuple[str, ...]]:
    """Return the affine in mm and what had to be worked around."""
    problems: list[str] = []
    refusals: list[DataError] = []
    scale = np.diag([_MM_PER_UNIT[header.get_xyzt_units()[0]]] * 3 + [1.0])
    for name, read in (("sform", header.get_sform), ("qform", header.get_qform)):
        try:
            with one_line(path, f"the {name} is damaged"):
                affine, code = read(coded=True)
                if code and affine is not None:
                    check_affine(affine, path)
                    return scale @ affine, tuple(problems)
        except DataError as refusal:
            refusals.append(refusal)
            problems.append(f"the {name} cannot be used")
    if refusals:
        raise refusals[0]
    raise DataError(
        "the file has no geometry: sform and qform codes are both 0",
        where=path,
        fix="set the sform with the tool that wrote it; geometry is never invented",
    )
