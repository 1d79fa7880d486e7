"""Find the scans among files and folders, reading no more than DICOM headers."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from scanlore.errors import DataError, nearest
from scanlore.scans.dicom import EXTENSIONS, group_dicom, is_dicom

Kind = Literal["nifti", "dicom", "image2d"]

_EXTENSIONS: dict[str, Kind] = {
    ".nii.gz": "nifti",
    ".nii": "nifti",
    ".png": "image2d",
    ".jpg": "image2d",
    ".jpeg": "image2d",
    ".tif": "image2d",
    ".tiff": "image2d",
    **dict.fromkeys(EXTENSIONS, "dicom"),
}


@dataclass(frozen=True)
class Source:
    """The files of one scan.

    Attributes:
        kind: The format.
        path: The file; the folder for a DICOM series of several files.
        files: All files, DICOM slices sorted along their normal.
        number: Counts the series of several files within one folder, from 1.
    """

    kind: Kind
    path: Path
    files: tuple[Path, ...]
    number: int = 1

    @property
    def name(self) -> str:
        """The path, and `#2`, `#3` ... for the second and third series of a folder."""
        return self.path.as_posix() + (f"#{self.number}" if self.number > 1 else "")

    def size_and_mtime(self) -> tuple[int, int]:
        """Return the bytes of all files together and the newest modification time in nanoseconds."""
        stats = [file.stat() for file in self.files]
        return sum(stat.st_size for stat in stats), max(stat.st_mtime_ns for stat in stats)


def find_sources(paths: Sequence[Path]) -> tuple[list[Source], list[tuple[Path, str]]]:
    """Find all scans in files and folders, subfolders included.

    Args:
        paths: Files and folders. Hidden files and folders inside them are ignored.

    Returns:
        The scans sorted by path, and the skipped files with a reason, with escapes where a name is not UTF-8. Both are
        the same on every call.

    Raises:
        DataError: A path does not exist.
    """
    files = dict.fromkeys(file for path in paths for file in _walk(_existing(path), set()))
    sources: list[Source] = []
    skipped: list[tuple[Path, str]] = []
    dicom: defaultdict[Path, list[Path]] = defaultdict(list)
    for file in files:
        kind, reason = _recognise(file)
        if kind is None:
            skipped.append((Path(printable(file)), reason))
        elif kind == "dicom":
            dicom[file.parent].append(file)
        else:
            sources.append(Source(kind, file, (file,)))
    for folder, members in dicom.items():
        groups, not_images = group_dicom(members)
        sources += _series(folder, groups)
        skipped += not_images
    return sorted(sources, key=lambda source: (source.path, source.number)), sorted(skipped)


def printable(path: Path) -> str:
    """Return a path with escapes in place of the bytes that are not UTF-8."""
    return path.as_posix().encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _is_utf8(path: Path) -> bool:
    """Whether tables can hold the name of a file, and that of what it links to."""
    # Path.resolve would raise for a link to itself
    return not any("\ud800" <= letter <= "\udfff" for letter in f"{path}{os.path.realpath(path)}")


def _existing(path: Path) -> Path:
    if path.exists():
        return path
    if path.is_symlink():
        raise DataError("a link to nothing, or to itself", where=path)
    siblings = [sibling.name for sibling in path.parent.iterdir()] if path.parent.is_dir() else []
    raise DataError(f"no such file or folder{nearest(path.name, siblings)}", where=path)


def _walk(path: Path, visited: set[Path]) -> Iterator[Path]:
    """Yield files in sorted order, following linked folders once."""
    if not path.is_dir():
        yield path
        return
    if path.resolve() in visited:
        return
    visited.add(path.resolve())
    if not _is_utf8(path):
        yield path  # listed as skipped, once for all that is in it
        return
    try:
        children = sorted(child for child in path.iterdir() if not child.name.startswith("."))
    except OSError:
        yield path  # listed as skipped
        return
    for child in children:
        yield from _walk(child, visited)


def _recognise(file: Path) -> tuple[Kind | None, str]:
    """Return the kind, or `None` and why the file is skipped."""
    if not _is_utf8(file):
        return None, f"{'folder' if file.is_dir() else 'file'} name is not UTF-8: rename it"
    if file.is_dir():
        return None, "the folder cannot be opened"
    if not file.exists():
        return None, "a link to nothing"
    name = file.name.lower()
    for extension, kind in _EXTENSIONS.items():
        if name.endswith(extension):
            return kind, ""
    suffix = file.suffix.lower()
    # DICOM files are often named by their UID, whose last number looks like an extension.
    if suffix and not suffix[1:].isdigit():
        return None, f"not a scan: {suffix}"
    try:
        return ("dicom", "") if is_dicom(file) else (None, "not a scan: no known extension")
    except OSError as error:
        return None, f"cannot be opened: {error.strerror}"


def _series(folder: Path, groups: list[list[Path]]) -> Iterator[Source]:
    number = 0
    for group in groups:
        if len(group) == 1:
            yield Source("dicom", group[0], tuple(group))
        else:
            number += 1
            yield Source("dicom", folder, tuple(group), number)
