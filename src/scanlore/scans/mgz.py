"""FreeSurfer's `.mgz` and `.mgh` files."""

from __future__ import annotations

from pathlib import Path

from nibabel.freesurfer.mghformat import DATA_OFFSET, MGHHeader

from scanlore.errors import DataError
from scanlore.scans.failures import one_line
from scanlore.scans.geometry import AssumedSpacing, settled_affine
from scanlore.scans.header import Header
from scanlore.scans.packed import read_start
from scanlore.scans.scan import Scan
from scanlore.scans.stored import StoredVolume, layout_of, read_volume, stored_header

ENDINGS = (".mgz", ".mgh", ".mgh.gz")
_HEADER_SIZE = 90
_RAS_FLAG = slice(28, 30)


def read_mgz(path: Path, assume: AssumedSpacing | None = None) -> Scan:
    """Read a `.mgz`, `.mgh` or `.mgh.gz` file; the frames become channels.

    Args:
        path: The file.
        assume: Voxel sizes where there is no usable affine.

    Raises:
        DataError: The file is broken or has no geometry.
    """
    with one_line(path, "damaged MGZ file"):
        return read_volume(_described(path, assume))


def mgz_header(path: Path, assume: AssumedSpacing | None = None) -> Header:
    """Read the header of a `.mgz`, `.mgh` or `.mgh.gz` file.

    Raises:
        DataError: As `read_mgz`, as far as the header and the size of the file show it.
    """
    with one_line(path, "damaged MGZ file"):
        return stored_header(_described(path, assume))


def _described(path: Path, assume: AssumedSpacing | None) -> StoredVolume:
    start = read_start(path, _HEADER_SIZE)
    if len(start) < _HEADER_SIZE:
        raise DataError("not a MGZ file: it ends within its header", where=path)
    header = MGHHeader(start)
    shape, num_channels = layout_of(header.get_data_shape(), path)
    # nibabel makes up an orientation where the file says that it has none
    stated_affine = header.get_affine() if int.from_bytes(start[_RAS_FLAG], "big") == 1 else None
    missing = "no geometry: the RAS flag is not set"
    affine, problems = settled_affine(stated_affine, [float(size) for size in header["delta"]], assume, path, missing)
    return StoredVolume(
        format="mgz",
        path=path,
        offset=DATA_OFFSET,
        dtype=header.get_data_dtype(),
        shape=shape,
        num_channels=num_channels,
        scale=(None, None),
        affine=affine,
        problems=problems,
    )
