"""What a file says about its scan before any voxel is read."""

from __future__ import annotations

from dataclasses import dataclass, field

from scanlore.scans.geometry import nearest_axes, orientation_code, spacing_of
from scanlore.scans.metadata import Metadata
from scanlore.scans.scan import FloatArray


@dataclass(frozen=True)
class Header:
    """Facts of a file, in the file's own axis order.

    Attributes:
        format: `nifti`, `dicom`, `nrrd`, `metaimage`, `mgz`, `analyze`, `png`, `jpeg` or `tiff`.
        shape: Spatial shape: three numbers for volumes, `(H, W)` for 2D images.
        num_channels: Channels or time points. A colour image counts three even where reading finds them equal and
            keeps one.
        spacing: Voxel size in mm along each axis of the file; `None` for 2D images without a known size.
        orientation: Where each axis of the file points, `"LPS"` for left, posterior, superior; the nearest directions
            for oblique scans; `None` for 2D images.
        dtype: Numpy name of the stored numbers, before any rescaling.
        metadata: As of the scan.
        problems: As of the scan, as far as the header shows them.
    """

    format: str
    shape: tuple[int, ...]
    num_channels: int
    spacing: tuple[float, ...] | None
    orientation: str | None
    dtype: str
    metadata: Metadata = field(default=Metadata())
    problems: tuple[str, ...] = ()


def volume_header(
    file_format: str,
    shape: tuple[int, ...],
    num_channels: int,
    affine: FloatArray,
    dtype: str,
    problems: tuple[str, ...] = (),
) -> Header:
    """Make the header of a volume.

    Args:
        file_format: As in `Header`.
        shape: Of the file, without channels.
        num_channels: Channels or time points.
        affine: (4, 4) of the file, already checked.
        dtype: As in `Header`.
        problems: As in `Header`.
    """
    orientation = orientation_code(nearest_axes(affine))
    return Header(file_format, shape, num_channels, spacing_of(affine), orientation, dtype, problems=problems)
