"""DICOMDIR: the table of contents of a medium."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydicom

from scanlore.scans.dicom_file import MOST_MEMORY, quiet, reading
from scanlore.scans.dicom_kinds import is_directory
from scanlore.scans.limits import limited_memory


def is_dicomdir(path: Path) -> bool:
    """Whether a DICOM file is a DICOMDIR.

    Raises:
        DataError: It cannot be read.
    """
    with quiet(), reading(path, "not readable as DICOM"):
        meta = pydicom.filereader.read_file_meta_info(path)
        return is_directory(str(meta.get("MediaStorageSOPClassUID", "")))


def dicomdir_files(path: Path) -> tuple[list[Path], list[Path]]:
    """Return the files that a DICOMDIR lists.

    Args:
        path: The DICOMDIR.

    Returns:
        The files that are there, in sorted order, and those that are not, or that lie elsewhere than below the folder
        of the DICOMDIR, which are never opened.

    Raises:
        DataError: It cannot be read.
    """
    with quiet(), reading(path, "the DICOMDIR cannot be read"), limited_memory(MOST_MEMORY):
        dataset = pydicom.dcmread(path, force=True)
        listed = sorted({reference for record in _records(dataset) for reference in _references(record)})
    files: list[Path] = []
    missing: list[Path] = []
    for parts in listed:
        file = _below(path.parent, parts)
        (missing if file is None else files).append(file or path.parent.joinpath(*parts))
    return sorted(files), sorted(missing)


def _records(dataset: Any) -> Iterator[Any]:
    yield from dataset.get("DirectoryRecordSequence") or []


def _references(record: Any) -> Iterator[tuple[str, ...]]:
    value = record.get("ReferencedFileID")
    if value:
        yield (value,) if isinstance(value, str) else tuple(map(str, value))


def _below(folder: Path, parts: tuple[str, ...]) -> Path | None:
    """Return the file of a reference; media write names in capitals that file systems hold in small letters."""
    for names in (parts, tuple(part.lower() for part in parts)):
        file = folder.joinpath(*names)
        if file.is_file() and file.resolve().is_relative_to(folder.resolve()):
            return file
    return None
