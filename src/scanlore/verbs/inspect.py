"""`scanlore inspect`: what is here and what is wrong with it; reads headers only and writes nothing."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from scanlore.errors import DataError

if TYPE_CHECKING:
    from scanlore.scans.find import Folder, Source
    from scanlore.scans.geometry import AssumedSpacing

CRASHED = "reader crashed: the process that read it died"

NUM_WORTH_PROCESSES = 3000
"""Fewer files are read before other processes have started."""

_CHUNK = 64
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class InspectResult:
    """What was found.

    Attributes:
        scans: One row per scan: name, format, shape, channels, spacing, orientation, dtype, modality, sequence,
            problems.
        problems: Name and reason of each scan whose header cannot be used.
        skipped: Name and reason of each file that is no scan.
    """

    scans: list[dict[str, Any]]
    problems: list[tuple[str, str]]
    skipped: list[tuple[str, str]]


@dataclass(frozen=True)
class _Answer:
    """A row, or why there is none."""

    path: Path
    number: int
    name: str
    row: dict[str, Any] | None
    reason: str


@dataclass(frozen=True)
class _Seen:
    """What one folder holds; its other sources are still to be opened."""

    answers: list[_Answer]
    others: list[Source]
    skipped: list[tuple[Path, str]]


def inspect(
    paths: Path | str | Sequence[Path | str],
    assume_spacing: AssumedSpacing | None = None,
    num_workers: int | None = None,
) -> InspectResult:
    """Look at the headers of all scans below some paths.

    Args:
        paths: Files, folders and zip archives.
        assume_spacing: Voxel sizes of volumes whose geometry cannot be used: `header` takes what the header states.
        num_workers: Processes; by default one per core, and none for few files.

    Raises:
        DataError: A path does not exist, or there is not one scan.
    """
    from scanlore.scans.find import list_folders

    folders, skipped = list_folders(as_paths(paths))
    is_large = sum(len(folder.files) for folder in folders) > NUM_WORTH_PROCESSES
    wanted = num_workers or (len(os.sched_getaffinity(0)) if is_large else 0)
    seen = _each(_look, folders, wanted)
    answers = [answer for one in seen for answer in one.answers]
    others = [source for one in seen for source in one.others]
    skipped = sorted(skipped + [stranger for one in seen for stranger in one.skipped])
    if not answers and not others:
        raise no_scans(as_paths(paths), skipped)
    # The library that parses NRRD and MetaImage headers could be brought down by a damaged one
    wanted = wanted or int(any(source.kind == "itk" for source in others))
    answers += _all(partial(_answer, assume=assume_spacing), others, wanted)
    answers.sort(key=lambda answer: (answer.path, answer.number))
    return InspectResult(
        scans=[answer.row for answer in answers if answer.row is not None],
        problems=[(answer.name, answer.reason) for answer in answers if answer.row is None],
        skipped=[(path.as_posix(), reason) for path, reason in skipped],
    )


def _look(folder: Folder) -> _Seen:
    """Find what is in a folder. DICOM headers have to be read for it, so that these scans are done here."""
    from scanlore.scans.find import sources_of

    sources, skipped = sources_of(folder)
    answers = [_answer(source) for source in sources if source.kind == "dicom"]
    return _Seen(answers, [source for source in sources if source.kind != "dicom"], skipped)


def _answer(source: Source, assume: AssumedSpacing | None = None) -> _Answer:
    from scanlore.scans.failures import reason_of
    from scanlore.scans.read import read_header

    try:
        header = read_header(source, assume_spacing=assume)
    except DataError as error:
        return _Answer(source.path, source.number, source.name, None, reason_of(error))
    row = {
        "name": source.name,
        "format": header.format,
        "shape": header.shape,
        "num_channels": header.num_channels,
        "spacing": header.spacing,
        "orientation": header.orientation,
        "dtype": header.dtype,
        "modality": header.metadata.modality,
        "sequence": header.metadata.sequence,
        "problems": "; ".join(header.problems),
    }
    return _Answer(source.path, source.number, source.name, row, "")


def _all(answer: Callable[[Source], _Answer], sources: Sequence[Source], num_workers: int) -> list[_Answer]:
    """Answer for all sources. Where a process dies, halves of them are tried, down to the one that brings it down."""
    try:
        return _each(answer, sources, num_workers, _CHUNK)
    except BrokenProcessPool:
        if len(sources) == 1:
            return [_Answer(sources[0].path, sources[0].number, sources[0].name, None, CRASHED)]
        half = len(sources) // 2
        return _all(answer, sources[:half], num_workers) + _all(answer, sources[half:], num_workers)


def _each(work: Callable[[_Item], _Result], items: Iterable[_Item], num_workers: int, chunk: int = 1) -> list[_Result]:
    """Do something for each item; here where there are no workers, or they cannot be started."""
    if not num_workers:
        return list(map(work, items))
    with ProcessPoolExecutor(num_workers, mp_context=multiprocessing.get_context("forkserver")) as pool:
        try:
            pool.submit(os.getpid).result()
        except BrokenProcessPool:  # a script that does not guard its main part
            return list(map(work, items))
        return list(pool.map(work, items, chunksize=chunk))


def as_paths(paths: Path | str | Sequence[Path | str]) -> list[Path]:
    """Return one or several paths as a list."""
    several = [paths] if isinstance(paths, Path | str) else paths
    return [Path(path) for path in several]


def no_scans(paths: Sequence[Path], skipped: Sequence[tuple[Path, str]]) -> DataError:
    """Return the error for paths without a single scan."""
    from scanlore.scans.failures import counted
    from scanlore.scans.find import printable

    where = ", ".join(map(printable, paths))
    seen = f"; {counted(len(skipped), 'file')} skipped, e.g. {skipped[0][0].name} ({skipped[0][1]})" if skipped else ""
    fix = "NIfTI, DICOM, NRRD, MHA, MGZ, Analyze, PNG, JPEG and TIFF are read, also from zip archives"
    return DataError(f"no scans{seen}", where=where, fix=fix)
