"""Read any scan, whatever its format."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from scanlore.errors import DataError, ScanloreError
from scanlore.scans.dicom import dicom_header, read_dicom_series
from scanlore.scans.failures import one_line
from scanlore.scans.find import Source, find_sources
from scanlore.scans.header import Header
from scanlore.scans.image2d import image2d_header, read_image2d
from scanlore.scans.nifti import nifti_header, read_nifti
from scanlore.scans.repair import repair_nonfinite
from scanlore.scans.scan import Scan


def read_scan(source: Source | Path | str, salt: bytes | None = None) -> Scan:
    """Read one scan; NaN and infinities are replaced by the mean of their channel and mentioned in `problems`.

    Args:
        source: What `find_sources` found, a file, or a folder that holds exactly one scan.
        salt: Secret of the corpus for the hash of the patient id; without it the patient stays unknown.

    Raises:
        DataError: Whatever keeps the scan from being read, in one line.
    """
    found = source if isinstance(source, Source) else _only_source(Path(source))
    with one_line(found.name, f"cannot be read as {found.kind}", detail=found.kind != "dicom"):
        scan = _read(found, salt)
        if scan.voxels.size == 0:
            raise DataError("the scan has no voxels", where=found.name)
        try:
            voxels, num_bad = repair_nonfinite(scan.voxels)
        except ScanloreError as error:
            raise DataError(error.what, where=found.name) from error
    if num_bad == 0:
        return scan
    note = f"{num_bad} non-finite voxel{'s' if num_bad > 1 else ''} replaced by the mean"
    return replace(scan, voxels=voxels, problems=(*scan.problems, note))


def read_header(source: Source) -> Header:
    """Read what the headers of a scan say, without its voxels.

    Raises:
        DataError: Whatever keeps the headers from being read, in one line.
    """
    with one_line(source.name, f"cannot be read as {source.kind}", detail=source.kind != "dicom"):
        if source.kind == "nifti":
            return nifti_header(source.path)
        if source.kind == "dicom":
            return dicom_header(source.files)
        return image2d_header(source.path)


def _read(source: Source, salt: bytes | None) -> Scan:
    if source.kind == "nifti":
        return read_nifti(source.path)
    if source.kind == "dicom":
        return read_dicom_series(source.files, salt)
    return read_image2d(source.path)


def _only_source(path: Path) -> Source:
    sources, skipped = find_sources([path])
    if len(sources) == 1:
        return sources[0]
    if path.is_file():
        raise DataError(skipped[0][1] if skipped else "not a scan", where=path)
    names = [source.name for source in sources[:3]] + ["..."] * (len(sources) > 3)
    listed = f": {', '.join(names)}" if names else ""
    raise DataError(f"{len(sources)} scans where one was expected{listed}", where=path)
