"""Patch features of a scan, with the affine that places their grid in the scan's own space."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from scanlore.inference.forward import Doubles, ScanFeatures
from scanlore.scans.scan import FloatArray


def grid_affine(
    view_affine: npt.ArrayLike, view_shape: tuple[int, ...], grid: tuple[int, ...], scan_affine: FloatArray | None
) -> Doubles:
    """Compose the map from grid cell indices, at the cells' centres, to RAS+ millimetres.

    Args:
        view_affine: `(scan axes, view axes + 1)` map from view voxel indices to scan voxel indices: `(3, 4)`
            for volumes, `(2, 3)` for images, `(3, 3)` for a slice of a volume.
        view_shape: Spatial shape of the view.
        grid: Spatial shape of the features; each cell covers `view_shape / grid` voxels.
        scan_affine: (4, 4) map from scan voxel indices to millimetres; `None` leaves voxel indices of the scan.

    Returns:
        Homogeneous map: `(4, 4)` for volumes, `(4, 3)` for a slice of a volume, `(3, 3)` for an image without geometry.
    """
    step = np.array(view_shape, np.float64) / grid
    cells = np.eye(len(grid) + 1)
    cells[range(len(grid)), range(len(grid))] = step
    cells[:-1, -1] = (step - 1) / 2
    composed = np.vstack([np.asarray(view_affine, np.float64), np.eye(len(grid) + 1)[-1]]) @ cells
    return composed if scan_affine is None or len(composed) != 4 else np.asarray(scan_affine, np.float64) @ composed


def dense_features(scan: ScanFeatures) -> tuple[npt.NDArray[np.float16], Doubles]:
    """Return the patch features of a scan and where they lie.

    Args:
        scan: With maps; views that lie in the same place (channels) are averaged.

    Returns:
        `(D, *grid)` features with their homogeneous affine. Where the views lie in P places (slices of a volume seen by
        a 2D model, or channels cropped apart) `(P, D, *grid)` and an affine for each.
    """
    assert scan.maps is not None
    grid = scan.maps.shape[2:]
    affines = [grid_affine(affine, scan.view_shape, grid, scan.scan_affine) for affine in scan.view_affines]
    places: dict[bytes, list[int]] = {}
    for index, affine in enumerate(affines):
        places.setdefault(affine.tobytes(), []).append(index)
    maps = np.stack([scan.maps[rows].astype(np.float32).mean(0) for rows in places.values()]).astype(np.float16)
    where = np.stack([affines[rows[0]] for rows in places.values()])
    return (maps[0], where[0]) if len(places) == 1 else (maps, where)


def write_dense(path: Path, scan: ScanFeatures) -> None:
    """Write the arrays `features` and `affine` of `dense_features` to an `.npz` file, whole or not at all."""
    features, affine = dense_features(scan)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        np.savez(file, features=features, affine=affine)
    temporary.replace(path)
