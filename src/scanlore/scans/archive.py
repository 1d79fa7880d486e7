"""Zip archives, read in place: members are unpacked one by one, for as long as they are read, and under neutral names.

A member is called by a path below its archive, `a.zip/inner/x.nii.gz`. That path is a name and never opened.
"""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import IO

import pydicom

from scanlore.errors import DataError
from scanlore.scans.failures import one_line
from scanlore.scans.limits import LARGE, check_inflation

ENDING = ".zip"
_HIDDEN = ("__MACOSX",)
_ENCRYPTED = 0x1
_NESTED = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".7z", ".rar")
_UNPACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2)
_NUM_OPEN = 4
_DEFLATED_DICOM = "1.2.840.10008.1.2.1.99"
_PIXEL_TAG_BYTES = 12
_COPY = 1 << 20


def is_archive(path: Path) -> bool:
    """Whether a file is called a zip archive."""
    return path.name.lower().endswith(ENDING)


def list_members(archive: Path) -> tuple[list[Path], list[tuple[Path, str]]]:
    """List the files in an archive.

    Args:
        archive: The file. Hidden members and folders are ignored.

    Returns:
        The members that can be unpacked, and the others with a reason. A damaged archive is one of the others.
    """
    try:
        found = _opened(archive)[0].infolist()
    except DataError as error:
        return [], [(archive, error.what)]
    members: dict[Path, None] = {}
    skipped = []
    for info in found:
        path = _virtual_path(archive, info.filename)
        if info.is_dir() or any(part.startswith(".") or part in _HIDDEN for part in path.relative_to(archive).parts):
            continue
        reason = "another member has the same name" if path in members else _why_not(info, archive)
        if reason:
            skipped.append((path, reason))
        else:
            members[path] = None
    return list(members), skipped


def open_member(archive: Path, path: Path) -> IO[bytes]:
    """Open a member for reading.

    Raises:
        DataError: It is not there any more, or the archive is damaged.
    """
    with one_line(path, "damaged archive"):
        file, members = _opened(archive)
        return file.open(_known(members, path))


def member_size(archive: Path, path: Path) -> int:
    """Return the bytes of a member, unpacked.

    Raises:
        DataError: It is not there any more, or the archive is damaged.
    """
    return _known(_opened(archive)[1], path).file_size


@contextmanager
def unpacked(
    archive: Path, members: Sequence[Path], endings: Sequence[str], most: int | None = None
) -> Iterator[list[Path]]:
    """Unpack members into a temporary folder, where they are called by their number.

    Args:
        archive: The file.
        members: As `list_members` calls them.
        endings: Of the temporary names, one for each.
        most: Where the start of each is enough, how many bytes; files of the full length have a hole behind them.

    Raises:
        DataError: A member is damaged, or together they unpack to absurdly many bytes.
    """
    known = [_known(_opened(archive)[1], path) for path in members]
    check_inflation(sum(info.file_size for info in known), sum(info.compress_size for info in known), archive)
    with TemporaryDirectory() as folder:
        files = [Path(folder) / f"{number}{ending}" for number, ending in enumerate(endings)]
        for path, file in zip(members, files, strict=True):
            with one_line(path, "damaged archive"), open_member(archive, path) as packed:
                # Nearly nothing but a hole would be taken for a promise that is not kept
                _write(packed, file, most if member_size(archive, path) <= LARGE else None, member_size(archive, path))
        yield files


@contextmanager
def unpacked_headers(
    archive: Path, members: Sequence[Path]
) -> Iterator[tuple[dict[Path, Path], list[tuple[Path, str]]]]:
    """Unpack DICOM members as far as their pixels, into files of the full length with a hole in place of the rest.

    Returns:
        The member of each temporary file, and the members that are damaged, with a reason.
    """
    files: dict[Path, Path] = {}
    skipped: list[tuple[Path, str]] = []
    with TemporaryDirectory() as folder:
        for number, path in enumerate(sorted(members)):
            file = Path(folder) / f"{number:09d}.dcm"
            try:
                with one_line(path, "damaged archive"):
                    _unpack_header(archive, path, file)
            except DataError as error:
                skipped.append((path, error.what))
            else:
                files[file] = path
        yield files, skipped


def _unpack_header(archive: Path, path: Path, file: Path) -> None:
    with open_member(archive, path) as packed:
        length = _header_length(packed)
        packed.seek(0)
        _write(packed, file, length, member_size(archive, path))


def _write(packed: IO[bytes], file: Path, most: int | None, size: int) -> None:
    """Write a member, or its first bytes and a hole."""
    with file.open("wb") as target:
        if most is None or most >= size:
            shutil.copyfileobj(packed, target, _COPY)
        else:
            target.write(packed.read(most))
            target.truncate(size)


def _header_length(packed: IO[bytes]) -> int | None:
    """Return the bytes up to the value of the pixels; `None` where only the whole file tells."""
    try:
        dataset = pydicom.dcmread(packed, stop_before_pixels=True, specific_tags=[])
    except Exception:
        return None
    is_deflated = str(getattr(dataset.file_meta, "TransferSyntaxUID", "")) == _DEFLATED_DICOM
    return None if is_deflated else packed.tell() + _PIXEL_TAG_BYTES


def _opened(archive: Path) -> tuple[zipfile.ZipFile, dict[Path, zipfile.ZipInfo]]:
    """Open an archive, or take the one that is open still: listing a large one takes long."""
    with one_line(archive, "damaged archive"):
        status = archive.stat()
        return _open_once(archive, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=_NUM_OPEN)
def _open_once(archive: Path, _size: int, _mtime_ns: int) -> tuple[zipfile.ZipFile, dict[Path, zipfile.ZipInfo]]:
    file = zipfile.ZipFile(archive)
    members: dict[Path, zipfile.ZipInfo] = {}
    for info in file.infolist():
        members.setdefault(_virtual_path(archive, info.filename), info)
    return file, members


def _known(members: dict[Path, zipfile.ZipInfo], path: Path) -> zipfile.ZipInfo:
    if path not in members:
        raise DataError("no longer in its archive", where=path)
    return members[path]


def _virtual_path(archive: Path, name: str) -> Path:
    parts = PurePosixPath(name.replace("\\", "/")).parts
    return archive.joinpath(*(part for part in parts if part not in ("/", "//", "..")))


def _why_not(info: zipfile.ZipInfo, archive: Path) -> str | None:
    """Return why a member is not unpacked."""
    name = info.filename.replace("\\", "/")
    if name.startswith("/") or ".." in PurePosixPath(name).parts:
        return "unsafe name: it leads out of its archive"
    if info.flag_bits & _ENCRYPTED:
        return "encrypted: unpack the archive first"
    if name.lower().endswith(_NESTED):
        return "an archive within an archive: unpack it first"
    if info.compress_type not in _UNPACKED:
        return "packed in another way than deflate: unpack the archive first"
    try:
        check_inflation(info.file_size, info.compress_size, archive)
    except DataError as error:
        return error.what
    return None
