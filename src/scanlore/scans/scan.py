"""The one form in which every file format arrives: a `Scan`."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from scanlore.scans.metadata import Metadata

Array = npt.NDArray[np.generic]
FloatArray = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Geometry:
    """Where the voxels of a file lie: what a written result has to reproduce exactly.

    Attributes:
        shape: Spatial shape in the file's own axis order, without channels.
        affine: (4, 4) map from the file's voxel indices to millimetres in RAS+ space; `None` for 2D images.
        axes: For each axis of the file, the RAS+ axis it became, and its sign: `((1, -1), (0, 1), (2, 1))`.
            For 2D images the identity.
    """

    shape: tuple[int, ...]
    affine: FloatArray | None
    axes: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Scan:
    """One image with its geometry.

    Attributes:
        voxels: `(C, X, Y, Z)` with spatial axes in RAS+ order for volumes, `(C, H, W)` for 2D images. The dtype is the
            file's own after its rescale slope and intercept: integers stay integers where the rescaling keeps them so.
        affine: (4, 4) map from voxel indices of `voxels` to RAS+ millimetres; `None` for 2D images without geometry.
        spacing: Voxel size in mm along each spatial axis of `voxels`; `None` for 2D images without a known size.
        through_axis: The spatial axis of `voxels` along which slices lie (0, 1 or 2): the axis whose spacing differs
            from two equal ones, else the axis the file stores last; `None` for 2D images.
        original: Geometry of the file, for writing results back.
        metadata: What the header and the file name say, without any text of theirs.
        problems: Things repaired or doubtful, one plain sentence each, without any header text or file name.
    """

    voxels: Array
    affine: FloatArray | None
    spacing: tuple[float, ...] | None
    through_axis: int | None
    original: Geometry
    metadata: Metadata = field(default=Metadata())
    problems: tuple[str, ...] = field(default=())

    @property
    def ndim(self) -> int:
        """Number of spatial axes: 2 or 3."""
        return self.voxels.ndim - 1

    @property
    def num_channels(self) -> int:
        """Number of channels, time points counted as channels."""
        return int(self.voxels.shape[0])

    @property
    def shape(self) -> tuple[int, ...]:
        """Spatial shape of `voxels`."""
        return tuple(self.voxels.shape[1:])
