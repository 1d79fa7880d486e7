"""Find the scans among files, folders and zip archives, reading no more than headers."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from scanlore.errors import DataError, nearest
from scanlore.scans.archive import is_archive, list_members
from scanlore.scans.dicom_dir import dicomdir_files, is_dicomdir
from scanlore.scans.recognise import Folder, sources_of
from scanlore.scans.source import Kind, Source

__all__ = ["Folder", "Kind", "Source", "find_sources", "list_folders", "printable", "sources_of"]

_DICOMDIR = "DICOMDIR"
_NOT_UTF8 = "name is not UTF-8: rename it"


def find_sources(paths: Sequence[Path]) -> tuple[list[Source], list[tuple[Path, str]]]:
    """Find all scans in files and folders, subfolders and zip archives included.

    Args:
        paths: Files and folders; a DICOMDIR stands for the files it lists. Hidden files and folders inside them are
            ignored.

    Returns:
        The scans sorted by path, and the skipped files with a reason, with escapes where a name is not UTF-8. Both are
        the same on every call.

    Raises:
        DataError: A path does not exist.
    """
    folders, skipped = list_folders(paths)
    found = [sources_of(folder) for folder in folders]
    return in_order([source for sources, _ in found for source in sources]), sorted(
        skipped + [one for _, others in found for one in others]
    )


def list_folders(paths: Sequence[Path]) -> tuple[list[Folder], list[tuple[Path, str]]]:
    """List the files of all folders and archives, without opening a file that is none.

    Args:
        paths: As in `find_sources`.

    Returns:
        What `sources_of` takes, and the files and folders that cannot be looked into, with a reason.

    Raises:
        DataError: A path does not exist.
    """
    skipped: dict[Path, str] = {}
    gathered: dict[tuple[Path | None, Path], Folder] = {}
    known: set[str] = set()
    # What lies below several paths belongs to the outermost
    for root in sorted(set(map(_existing, paths)), key=lambda path: (len(path.absolute().parts), path)):
        top = root.parent if _is_dicomdir(root) else root
        for file, reason in _files(root):
            if reason:
                skipped.setdefault(Path(printable(file)), reason)
            elif os.path.abspath(file) not in known:
                known.add(os.path.abspath(file))
                archive = file if is_archive(file) else None
                members, others = list_members(file) if archive else ([file], [])
                skipped |= dict(others)
                for member in members:
                    folder = gathered.setdefault((archive, member.parent), Folder(top, [], archive))
                    folder.files.append(member)
    return list(gathered.values()), sorted(skipped.items())


def in_order(sources: Sequence[Source]) -> list[Source]:
    """Return sources sorted by path and number."""
    return sorted(sources, key=lambda source: (source.path, source.number))


def printable(path: Path) -> str:
    """Return a path with escapes in place of the bytes that are not UTF-8."""
    return path.as_posix().encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _is_utf8(text: str) -> bool:
    """Whether tables can hold a name."""
    return text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text)


def _existing(path: Path) -> Path:
    if path.exists():
        return path
    if path.is_symlink():
        raise DataError("a link to nothing, or to itself", where=path)
    siblings = [sibling.name for sibling in path.parent.iterdir()] if path.parent.is_dir() else []
    raise DataError(f"no such file or folder{nearest(path.name, siblings)}", where=path)


def _files(root: Path) -> Iterator[tuple[Path, str]]:
    """Yield the files of one path, each with why it is skipped or an empty reason."""
    if not _is_utf8(f"{root}{os.path.realpath(root)}"):
        yield root, f"{'folder' if root.is_dir() else 'file'} {_NOT_UTF8}"
    elif root.is_dir():
        yield from _walk(root)
    elif not root.is_file():
        yield root, "not a file: a pipe, socket or device"
    elif _is_dicomdir(root):
        files, missing = dicomdir_files(root)
        yield from ((file, "") for file in files)
        yield from ((file, "missing: listed in the DICOMDIR") for file in missing)
    else:
        yield root, ""


def _is_dicomdir(path: Path) -> bool:
    try:
        return path.name.upper() == _DICOMDIR and path.is_file() and is_dicomdir(path)
    except DataError:
        return False


def _walk(root: Path) -> Iterator[tuple[Path, str]]:
    """Yield what lies below a folder; linked folders come last and each folder counts once, so that loops end."""
    visited: set[tuple[int, int]] = set()
    waiting, linked = [root], list[Path]()
    while waiting or linked:
        folder = waiting.pop() if waiting else linked.pop(0)
        try:
            status = os.stat(folder)
            if (status.st_dev, status.st_ino) in visited:
                continue
            visited.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as listed:
                entries = sorted(listed, key=lambda entry: entry.name)
        except OSError:
            yield folder, "the folder cannot be opened"
            continue
        if {entry.name for entry in entries} >= _CORPUS:
            yield folder, "a corpus, not scans"
            continue
        for entry in entries:
            if not entry.name.startswith("."):
                path, is_folder = folder / entry.name, _is_folder(entry)
                if reason := _why_not(entry, path, is_folder):
                    yield path, reason
                elif is_folder:
                    (linked if entry.is_symlink() else waiting).append(path)
                else:
                    yield path, ""


_CORPUS = {"corpus.json", "shards"}
"""What a folder that `scanlore corpus build` made holds."""


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _why_not(entry: os.DirEntry[str], path: Path, is_folder: bool) -> str:
    if not _is_utf8(entry.name) or (entry.is_symlink() and not _is_utf8(os.path.realpath(path))):
        return f"{'folder' if is_folder else 'file'} {_NOT_UTF8}"
    try:
        if is_folder or entry.is_file():
            return ""
        return "not a file: a pipe, socket or device" if path.exists() else "a link to nothing"
    except OSError as error:
        return (
            "a link to nothing" if entry.is_symlink() else f"cannot be opened: {os.strerror(error.errno or 0).lower()}"
        )
