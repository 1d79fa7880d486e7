"""Which DICOM files make one scan, and what their headers say about it, each header read once."""

from __future__ import annotations

import pickle
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import pydicom

from scanlore.errors import DataError
from scanlore.scans.dicom_file import DicomFile, bare, is_dicom, quiet, read_file, reading
from scanlore.scans.dicom_frames import Vector, same_orientation
from scanlore.scans.dicom_kinds import FLAT_MODALITIES
from scanlore.scans.dicom_metadata import Identity, identity_of
from scanlore.scans.dicom_pixels import is_colour
from scanlore.scans.dicom_stack import GapError, Stack, stack_of
from scanlore.scans.failures import counted
from scanlore.scans.geometry import nearest_axes, orientation_code, spacing_of
from scanlore.scans.header import Header

EXTENSIONS = (".dcm", ".ima")
"""Files of these names are taken for DICOM without a look inside."""

NUM_REMEMBERED = 10_000
"""Scans whose headers are kept between finding and reading: 200 MB of large series."""


@dataclass(frozen=True, slots=True)
class Series:
    """What the headers of the files of one scan say.

    Attributes:
        header: Without metadata; or why they make no scan.
        identity: Of the first file.
        packed: The facts of several files in some bytes each, so that no header is read again; empty for one file.
    """

    header: Header | DataError
    identity: Identity
    packed: bytes = b""


@dataclass(slots=True)
class _Group:
    identity: Identity
    orientation: Vector | None
    files: list[DicomFile] = field(default_factory=list)


_Key = tuple[Path, int, int, int]

_remembered: dict[_Key, Series] = {}


def group_dicom(files: Iterable[Path]) -> tuple[list[list[Path]], list[tuple[Path, str]]]:
    """Group files by series, image size and orientation, reading headers only.

    Projections, photographs and multi-frame files are groups of their own.

    Args:
        files: DICOM files, or files that might be.

    Returns:
        The groups in the order of their first file, each sorted along the slice normal (by name where the geometry is
        missing, which reading then refuses); and the skipped files with a reason.
    """
    groups: dict[tuple[object, ...], list[_Group]] = {}
    found: list[list[Path]] = []
    skipped: list[tuple[Path, str]] = []
    with quiet():
        for path in sorted(files):
            try:
                file, dataset = read_file(path)
                if file.is_flat or file.pixels.frames > 1:
                    found.append(_finished(_Group(_identity(dataset, path), None, [file])))
                else:
                    _join(groups.setdefault((file.series, file.pixels.shape), []), file, dataset)
            except DataError as error:
                skipped.append((path, error.what))
        found += [_finished(group) for known in groups.values() for group in known]
    return sorted(found, key=min), skipped


def series_of(files: Sequence[Path]) -> Series:
    """Return what the headers of the files of one scan say, from memory where they were grouped just now.

    Raises:
        DataError: A file cannot be read as DICOM.
    """
    remembered = recall(files)
    if remembered is not None:
        return remembered
    identity, read = _read(files)
    return Series(_header(sorted(read, key=lambda file: file.path)), identity)


def files_of(files: Sequence[Path]) -> tuple[Identity, list[DicomFile]]:
    """Return what the header of each file of one scan says, from memory as `series_of`.

    Raises:
        DataError: A file cannot be read as DICOM.
    """
    remembered = recall(files)
    if remembered is None or not remembered.packed:
        return _read(files)
    return remembered.identity, pickle.loads(zlib.decompress(remembered.packed))


def recall(files: Sequence[Path]) -> Series | None:
    """Return what this process remembers of files that have not changed since.

    Raises:
        DataError: A file is gone.
    """
    with reading(place_of(files), "not readable as DICOM"):
        status = [path.stat() for path in files]
    return _remembered.get(_key(files, [one.st_size for one in status], [one.st_mtime_ns for one in status]))


def remember(files: Sequence[Path], series: Series) -> None:
    """Take over what another process remembers of files.

    Raises:
        DataError: A file is gone.
    """
    with reading(place_of(files), "not readable as DICOM"):
        status = [path.stat() for path in files]
    _keep(_key(files, [one.st_size for one in status], [one.st_mtime_ns for one in status]), series)


def _read(files: Sequence[Path]) -> tuple[Identity, list[DicomFile]]:
    with quiet():
        first, dataset = read_file(min(files))
        return _identity(dataset, first.path), [first if path == first.path else read_file(path)[0] for path in files]


def stack_of_files(files: Sequence[DicomFile]) -> Stack:
    """Put the slices of files in order.

    Raises:
        DataError: As `stack_of`, or the place of a slice is not known.
    """
    where = place_of([file.path for file in files])
    for file in files:
        _check_volume(file)
    try:
        return stack_of([frame for file in files for frame in file.frames], where)
    except GapError as gap:
        num_damaged = _num_damaged_beside(files[0].path) if len(files) > 1 else 0
        if not num_damaged:
            raise
        what = f"{gap.what}, {counted(num_damaged, 'file')} beside them cannot be read"
        raise DataError(what, where=where, fix="copy or export the damaged files again") from None


def place_of(files: Sequence[Path]) -> Path:
    """Return what to name in messages: the file, or the folder of several."""
    if not files:
        raise DataError("a series without files")
    return files[0] if len(files) == 1 else files[0].parent


def _join(known: list[_Group], file: DicomFile, dataset: Any) -> None:
    """Add a file to the group of its orientation. Comparing beats rounding, which can split equals."""
    orientation = file.frames[0].orientation if file.frames else None
    for group in known:
        if group.orientation is orientation or (
            group.orientation and orientation and same_orientation(group.orientation, orientation)
        ):
            group.files.append(file)
            return
    known.append(_Group(_identity(dataset, file.path), orientation, [file]))


def _identity(dataset: Any, path: Path) -> Identity:
    with reading(path, "not readable as DICOM"):
        return identity_of(dataset)


def _finished(group: _Group) -> list[Path]:
    """Remember what the headers of a group say, and return its files in order."""
    files = group.files
    files.sort(key=lambda file: (file.frames[0].height if file.frames else 0.0, file.path))
    paths = [file.path for file in files]
    key = _key(paths, [file.bytes for file in files], [file.mtime_ns for file in files])
    packed = zlib.compress(pickle.dumps(files), 1) if len(files) > 1 else b""
    _keep(key, Series(_header(files), group.identity, packed))
    return paths


def _keep(key: _Key, series: Series) -> None:
    if len(_remembered) >= NUM_REMEMBERED:
        del _remembered[next(iter(_remembered))]
    _remembered[key] = series


def _key(paths: Sequence[Path], sizes: Sequence[int], mtimes: Sequence[int]) -> _Key:
    return min(paths), len(paths), sum(sizes), max(mtimes)


def _header(files: Sequence[DicomFile]) -> Header | DataError:
    pixels = files[0].pixels
    if len(files) == 1 and files[0].is_flat:
        return Header("dicom", pixels.shape, 3 if is_colour(pixels) else 1, files[0].pixel_spacing, None, pixels.dtype)
    try:
        stack = stack_of_files(files)
    except DataError as error:
        return bare(error)
    return Header(
        format="dicom",
        shape=stack.shape,
        num_channels=stack.num_channels,
        spacing=spacing_of(stack.affine),
        orientation=orientation_code(nearest_axes(stack.affine)),
        dtype=pixels.dtype,
        problems=stack.problems,
    )


def _check_volume(file: DicomFile) -> None:
    if file.problem and file.modality in FLAT_MODALITIES and file.pixels.frames > 1:
        what = f"cine: {file.pixels.frames} frames without slice positions"
        raise DataError(what, where=file.path, fix="export single frames")
    if file.problem:
        raise bare(file.problem)
    if is_colour(file.pixels):
        fix = "leave out coloured maps and screen pictures; export the original images"
        raise DataError("colour: volumes have grey values", where=file.path, fix=fix)


def _num_damaged_beside(path: Path) -> int:
    """Return how many files beside one should be slices like it, and cannot be read."""
    usual = _storage_class(path)
    return sum(found in ("", usual) for found in _unreadable(path.parent, path.parent.stat().st_mtime_ns))


@lru_cache(maxsize=8)
def _unreadable(folder: Path, mtime_ns: int) -> tuple[str, ...]:
    """Return for each file of a folder that says it is DICOM and has no image what kind of object it says it is.

    A folder can hold many series with gaps, so that looking into it once has to do.
    """
    found = []
    for path in folder.iterdir():
        try:
            if (
                path.is_file()
                and not path.name.startswith(".")
                and (path.suffix.lower() in EXTENSIONS or is_dicom(path))
            ):
                read_file(path)
        except (DataError, OSError):
            found.append(_storage_class(path))
    return tuple(found)


def _storage_class(path: Path) -> str:
    """Return what kind of object a file says it is; this comes first and survives most cuts."""
    try:
        with reading(path, "not readable as DICOM"):
            return str(pydicom.filereader.read_file_meta_info(path).MediaStorageSOPClassUID)
    except DataError:
        return ""
