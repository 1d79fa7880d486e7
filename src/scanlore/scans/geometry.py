"""Affines and axis orders: file grid to RAS+ grid and back, by permutation and flips alone."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from scanlore.errors import DataError
from scanlore.scans.metadata import Metadata
from scanlore.scans.scan import Array, FloatArray, Geometry, Scan

Axes = tuple[tuple[int, int], ...]

AssumedSpacing = Literal["header"] | tuple[float, float, float]
"""Voxel sizes of a scan whose geometry cannot be used: as its header states them, or in mm in the file's axis order."""

SMALLEST_SPACING = 1e-6
"""Voxels thinner than this many millimetres mean a broken affine."""

ASSUME_FIX = "`--assume-spacing header` takes the voxel sizes the header states, `--assume-spacing 1,1,3` others"

SHEAR_TOLERANCE = 0.01
"""Largest cosine between two voxel axes: 0.6 degrees, far above rounding and far below a tilted gantry."""

EQUAL_SPACING = 0.01
"""Spacings closer than this many millimetres count as equal (the rule of 3DINO's data preparation)."""


def check_affine(affine: FloatArray, where: object) -> None:
    """Refuse an affine that does not describe a rectangular grid.

    Args:
        affine: (4, 4) map from voxel indices to millimetres.
        where: The file concerned, for the message.

    Raises:
        DataError: For values that are not finite, an axis of length zero, parallel axes, or axes sheared by more than
            `SHEAR_TOLERANCE`.
    """
    fix = "correct the orientation in the file's header, or convert the original images again"
    if affine.shape != (4, 4) or not np.isfinite(affine).all():
        raise DataError("damaged affine: it has values that are not finite numbers", where=where, fix=fix)
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if lengths.min() < SMALLEST_SPACING:
        raise DataError("no voxel size: the affine gives a voxel size of zero", where=where, fix=fix)
    directions = affine[:3, :3] / lengths
    cosine = np.abs(directions.T @ directions - np.eye(3)).max()
    if abs(np.linalg.det(directions)) < SHEAR_TOLERANCE:
        raise DataError("singular affine: two voxel axes are parallel", where=where, fix=fix)
    if cosine > SHEAR_TOLERANCE:
        angle = np.degrees(np.arcsin(min(1.0, float(cosine))))
        raise DataError(
            f"sheared axes: by {angle:.1f} degrees (a tilted CT gantry, or an affine registration)",
            where=where,
            fix="resample the scan to a rectangular grid first",
        )


def settled_affine(
    affine: FloatArray | None,
    stated: Sequence[float],
    assume: AssumedSpacing | None,
    where: object,
    missing: str = "no geometry: the file states no orientation",
) -> tuple[FloatArray, tuple[str, ...]]:
    """Return the affine of a file, or one that stands in for it where it cannot be used.

    A sheared affine becomes the nearest rotation (and reflection), by polar decomposition of its directions, about the
    first voxel; where there are no directions, the axes of the file are taken as right, anterior and superior.

    Args:
        affine: (4, 4) of the file; `None` where it states none.
        stated: Voxel sizes in mm that the header gives beside the affine.
        assume: Voxel sizes where the affine cannot be used; `header`: those of its columns, else `stated`.
        where: The file concerned.
        missing: What is wrong without an affine.

    Returns:
        The affine, and what was assumed.

    Raises:
        DataError: The affine is missing or fails `check_affine`, and nothing may be assumed, or there is no voxel size.
    """
    try:
        if affine is None:
            raise DataError(missing, where=where, fix="geometry is never invented: set it with the tool that wrote it")
        check_affine(affine, where)
    except DataError as refusal:
        if assume is None:
            raise DataError(refusal.what, where=where, fix=f"{refusal.fix}; {ASSUME_FIX}") from None
        return _assumed(affine, stated, assume, where)
    return affine, ()


def _assumed(
    affine: FloatArray | None, stated: Sequence[float], assume: AssumedSpacing, where: object
) -> tuple[FloatArray, tuple[str, ...]]:
    rotation = None if affine is None else _nearest_rotation(affine)
    given = stated if affine is None or rotation is None else spacing_of(affine)
    sizes = np.array(given if assume == "header" else assume, float)
    if sizes.shape != (3,) or not np.isfinite(sizes).all() or sizes.min() < SMALLEST_SPACING:
        raise DataError("no voxel size: the header states none", where=where, fix="`--assume-spacing 1,1,3` gives it")
    assumed = np.eye(4)
    assumed[:3, :3] = (np.eye(3) if rotation is None else rotation) * sizes
    if affine is not None and np.isfinite(affine[:3, 3]).all():
        assumed[:3, 3] = affine[:3, 3]
    axes = "axes taken as right, anterior, superior" if rotation is None else "nearest rectangular axes"
    return assumed, (f"spacing assumed: {' x '.join(f'{size:.4g}' for size in sizes)} mm, {axes}",)


def _nearest_rotation(affine: FloatArray) -> FloatArray | None:
    """Return the orthogonal matrix nearest to the directions of the voxel axes; `None` where they span no space."""
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all() or lengths.min() < SMALLEST_SPACING:
        return None
    left, singular, right = np.linalg.svd(affine[:3, :3] / lengths)
    return left @ right if np.prod(singular) >= SHEAR_TOLERANCE else None


def spacing_of(affine: FloatArray) -> tuple[float, float, float]:
    """Return the voxel size in mm along each axis of an affine."""
    x, y, z = (float(length) for length in np.linalg.norm(affine[:3, :3], axis=0))
    return x, y, z


def nearest_axes(affine: FloatArray) -> Axes:
    """Return for each axis of the file the nearest RAS+ axis and its sign, each RAS+ axis once.

    The permutation is the one with the largest sum of direction cosines; ties go to the first in order.
    """
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    order = max(permutations(range(3)), key=lambda p: round(sum(abs(directions[p[f], f]) for f in range(3)), 6))
    return tuple((ras, 1 if directions[ras, axis] >= 0 else -1) for axis, ras in enumerate(order))


def orientation_code(axes: Axes) -> str:
    """Return where each axis of the file points, `"LPS"` for left, posterior, superior."""
    return "".join(("LR", "PA", "IS")[ras][sign > 0] for ras, sign in axes)


def to_ras(voxels: npt.NDArray[Any], affine: FloatArray) -> tuple[Array, FloatArray, Axes]:
    """Reorient to the nearest RAS+ axes without resampling.

    Args:
        voxels: `(C, *3D)` in the file's axis order.
        affine: (4, 4) of the file.

    Returns:
        The voxels `(C, X, Y, Z)` as a view, their affine, and the axes as in `Geometry.axes`.
    """
    axes = nearest_axes(affine)
    file_from_ras = np.zeros((4, 4))
    file_from_ras[3, 3] = 1
    for axis, (ras, sign) in enumerate(axes):
        file_from_ras[axis, ras] = sign
        if sign < 0:
            file_from_ras[axis, 3] = voxels.shape[1 + axis] - 1
    file_axes = [0, *(1 + [ras for ras, _ in axes].index(target) for target in range(3))]
    flips = tuple(1 + ras for ras, sign in axes if sign < 0)
    return np.flip(voxels.transpose(file_axes), flips), affine @ file_from_ras, axes


def from_ras(voxels_ras: npt.NDArray[Any], geometry: Geometry) -> Array:
    """Return voxels on a scan's grid to the axis order of its file; the exact inverse of `to_ras`.

    Args:
        voxels_ras: `(C, *spatial)` or `(*spatial)` on the grid of `Scan.voxels`.
        geometry: `Scan.original`.

    Returns:
        A view with spatial shape `geometry.shape`, the channel axis first where there was one.

    Raises:
        DataError: The shape is not the scan's.
    """
    num_spatial = len(geometry.axes)
    lead = voxels_ras.ndim - num_spatial
    expected = [0] * num_spatial
    for axis, (ras, _) in enumerate(geometry.axes):
        expected[ras] = geometry.shape[axis]
    if lead not in (0, 1) or list(voxels_ras.shape[lead:]) != expected:
        raise DataError(f"voxels of shape {voxels_ras.shape} do not lie on the scan's grid {tuple(expected)}")
    flipped = np.flip(voxels_ras, tuple(lead + ras for ras, sign in geometry.axes if sign < 0))
    return flipped.transpose([*range(lead), *(lead + ras for ras, _ in geometry.axes)])


def through_axis(file_spacing: tuple[float, ...], axes: Axes) -> int:
    """Return the RAS+ axis along which slices lie.

    Two equal spacings define the plane of the slices (3DINO's rule, tolerance 0.01 mm). Where all are equal or all
    differ, it is the axis that the file stores last.

    Args:
        file_spacing: Voxel size in mm along each axis of the file.
        axes: As in `Geometry.axes`.
    """
    for first, second, through in ((0, 1, 2), (0, 2, 1), (1, 2, 0)):
        if abs(file_spacing[first] - file_spacing[second]) < EQUAL_SPACING:
            return axes[through][0]
    return axes[2][0]


def volume_scan(
    voxels: npt.NDArray[Any],
    affine: FloatArray,
    *,
    metadata: Metadata = Metadata(),  # noqa: B008 - frozen
    problems: tuple[str, ...] = (),
) -> Scan:
    """Make the scan of a volume.

    Args:
        voxels: `(C, *3D)` in the file's axis order.
        affine: (4, 4) of the file, already checked.
        metadata: As in `Scan`.
        problems: As in `Scan`.
    """
    ras, ras_affine, axes = to_ras(voxels, affine)
    return Scan(
        voxels=ras,
        affine=ras_affine,
        spacing=spacing_of(ras_affine),
        through_axis=through_axis(spacing_of(affine), axes),
        original=Geometry(shape=tuple(voxels.shape[1:]), affine=affine, axes=axes),
        metadata=metadata,
        problems=problems,
    )
