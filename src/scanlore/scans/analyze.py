"""Analyze 7.5 files: pairs of `.hdr` and `.img` from before NIfTI, which do not say how a patient lies in them."""

from __future__ import annotations

from pathlib import Path

from nibabel.spm2analyze import Spm2AnalyzeHeader

from scanlore.errors import DataError
from scanlore.scans.failures import one_line
from scanlore.scans.geometry import AssumedSpacing, settled_affine
from scanlore.scans.header import Header
from scanlore.scans.packed import read_start
from scanlore.scans.scan import Scan
from scanlore.scans.stored import StoredVolume, nifti_like, parsed, read_volume, stored_header

HEADER_SIZE = 348


def read_analyze(path: Path, voxels_in: Path, assume: AssumedSpacing | None = None) -> Scan:
    """Read a pair of `.hdr` and `.img`; the fourth axis becomes the channels.

    Args:
        path: The `.hdr` file.
        voxels_in: The `.img` file.
        assume: Voxel sizes; without them every such scan is refused.

    Raises:
        DataError: The files are broken, or no voxel sizes may be assumed.
    """
    with one_line(path, "damaged Analyze file"):
        return read_volume(_described(path, voxels_in, assume))


def analyze_header(path: Path, voxels_in: Path, assume: AssumedSpacing | None = None) -> Header:
    """Read the header of a pair of `.hdr` and `.img`.

    Raises:
        DataError: As `read_analyze`, as far as the header and the size of the files show it.
    """
    with one_line(path, "damaged Analyze file"):
        return stored_header(_described(path, voxels_in, assume))


def is_analyze(start: bytes) -> bool:
    """Whether the first bytes of a `.hdr` file state the length of such a header."""
    return any(int.from_bytes(start[:4], order) == HEADER_SIZE for order in ("little", "big"))


def _described(path: Path, voxels_in: Path, assume: AssumedSpacing | None) -> StoredVolume:
    start = read_start(path, HEADER_SIZE)
    if len(start) < HEADER_SIZE or not is_analyze(start):
        raise DataError("not an Analyze file", where=path)
    header = parsed(Spm2AnalyzeHeader, start)
    stated = [float(size) for size in header["pixdim"][1:4]]
    missing = "no geometry: Analyze files state no orientation"
    return nifti_like("analyze", header, path, voxels_in, lambda: settled_affine(None, stated, assume, path, missing))
