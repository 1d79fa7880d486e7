"""Read any scan, whatever its format."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from scanlore.errors import DataError, ScanloreError
from scanlore.scans.analyze import analyze_header, read_analyze
from scanlore.scans.archive import open_member, unpacked, unpacked_headers
from scanlore.scans.bids import bids_metadata
from scanlore.scans.dicom import dicom_header, read_dicom_series
from scanlore.scans.failures import one_line
from scanlore.scans.find import Source, find_sources
from scanlore.scans.geometry import AssumedSpacing
from scanlore.scans.header import Header
from scanlore.scans.image2d import image2d_header, is_tiff, read_image2d
from scanlore.scans.itk import itk_header, read_itk
from scanlore.scans.itk_text import LONGEST_TEXT, with_data_file
from scanlore.scans.metadata import Metadata
from scanlore.scans.mgz import mgz_header, read_mgz
from scanlore.scans.nifti import nifti_header, read_nifti
from scanlore.scans.recognise import DATA_ENDING, ending_of
from scanlore.scans.repair import repair_nonfinite
from scanlore.scans.scan import Scan


def read_scan(
    source: Source | Path | str, salt: bytes | None = None, assume_spacing: AssumedSpacing | None = None
) -> Scan:
    """Read one scan; NaN and infinities are replaced by the mean of their channel and mentioned in `problems`.

    Args:
        source: What `find_sources` found, a file, or a folder that holds exactly one scan.
        salt: Secret of the project for the hashes of the metadata; without it they stay unknown.
        assume_spacing: Voxel sizes of a volume whose geometry cannot be used; without them it is refused.

    Raises:
        DataError: Whatever keeps the scan from being read, in one line.
    """
    found = source if isinstance(source, Source) else _only_source(Path(source))
    with _on_disk(found) as real:
        scan = _read(real, salt, assume_spacing)
        if scan.voxels.size == 0:
            raise DataError("the scan has no voxels", where=found.name)
        try:
            voxels, num_bad = repair_nonfinite(scan.voxels)
        except ScanloreError as error:
            raise DataError(error.what, where=found.name) from error
    if found.kind != "dicom":
        scan = replace(scan, metadata=_named(found, salt))
    if num_bad == 0:
        return scan
    note = f"{num_bad} non-finite voxel{'s' if num_bad > 1 else ''} replaced by the mean"
    return replace(scan, voxels=voxels, problems=(*scan.problems, note))


def read_header(
    source: Source | Path | str, salt: bytes | None = None, assume_spacing: AssumedSpacing | None = None
) -> Header:
    """Read what the headers of a scan say, without its voxels.

    Args:
        source: As in `read_scan`.
        salt: As in `read_scan`.
        assume_spacing: As in `read_scan`.

    Raises:
        DataError: Whatever keeps the headers from being read, in one line.
    """
    found = source if isinstance(source, Source) else _only_source(Path(source))
    with _on_disk(found, is_header_enough=True) as real:
        header = _header(real, salt, assume_spacing)
    return header if found.kind == "dicom" else replace(header, metadata=_named(found, salt))


def _read(source: Source, salt: bytes | None, assume: AssumedSpacing | None) -> Scan:
    if source.kind == "dicom":
        return read_dicom_series(source.files, salt)
    if source.kind == "nifti":
        return read_nifti(source.path, assume, source.files[-1])
    if source.kind == "itk":
        return read_itk(source.path, assume)
    if source.kind == "mgz":
        return read_mgz(source.path, assume)
    if source.kind == "analyze":
        return read_analyze(source.path, source.files[-1], assume)
    return read_image2d(source.path, source.number)


def _header(source: Source, salt: bytes | None, assume: AssumedSpacing | None) -> Header:
    if source.kind == "dicom":
        return dicom_header(source.files, salt)
    if source.kind == "nifti":
        return nifti_header(source.path, assume, source.files[-1])
    if source.kind == "itk":
        return itk_header(source.path, assume)
    if source.kind == "mgz":
        return mgz_header(source.path, assume)
    if source.kind == "analyze":
        return analyze_header(source.path, source.files[-1], assume)
    return image2d_header(source.path, source.number)


def _named(source: Source, salt: bytes | None) -> Metadata:
    """Return what names and a JSON file beside the scan say of it."""
    archive = source.archive
    if archive is None:
        return bids_metadata(source.path, salt)

    def read(path: Path, num_bytes: int) -> bytes:
        with one_line(path, "damaged archive"), open_member(archive, path) as file:
            return file.read(num_bytes)

    return bids_metadata(source.path, salt, read)


@contextmanager
def _on_disk(source: Source, is_header_enough: bool = False) -> Iterator[Source]:
    """Give a source whose files can be opened, for as long as that takes, and name it in every failure."""
    with one_line(source.name, f"cannot be read as {source.kind}", chained=source.kind != "dicom"):
        if source.archive is None:
            yield source
            return
        try:
            with _from_archive(source, source.archive, is_header_enough) as unpacked_source:
                yield unpacked_source
        except DataError as error:
            raise DataError(error.what, where=source.name, fix=error.fix) from error.__cause__


@contextmanager
def _from_archive(source: Source, archive: Path, is_header_enough: bool) -> Iterator[Source]:
    if source.kind == "dicom" and is_header_enough:
        with unpacked_headers(archive, source.files) as (members, damaged):
            if damaged:
                raise DataError(damaged[0][1], where=source.name)
            yield _placed(source, list(members))
        return
    most = LONGEST_TEXT if is_header_enough and not is_tiff(source.path) else None
    endings = [ending_of(file) or DATA_ENDING for file in source.files]
    with unpacked(archive, source.files, endings, most) as files:
        if source.kind == "itk" and len(files) > 1:
            files[0].write_bytes(with_data_file(files[0], files[0].read_bytes(), files[1].name))
        yield _placed(source, files)


def _placed(source: Source, files: list[Path]) -> Source:
    path = files[0] if len(files) == 1 or source.kind != "dicom" else files[0].parent
    return replace(source, path=path, files=tuple(files), archive=None)


def _only_source(path: Path) -> Source:
    sources, skipped = find_sources([path])
    if len(sources) == 1:
        return sources[0]
    if path.is_file() and not sources:
        raise DataError(skipped[0][1] if skipped else "not a scan", where=path)
    raise DataError(f"{len(sources)} scans where one was expected", where=path, fix="name the file of one")
