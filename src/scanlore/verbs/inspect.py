"""`scanlore inspect`: what is here and what is wrong with it; reads headers only and writes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from scanlore.errors import DataError


@dataclass(frozen=True)
class InspectResult:
    """What was found.

    Attributes:
        scans: One row per scan: name, format, shape, channels, spacing, orientation, dtype.
        problems: Name and reason of each scan whose header cannot be used.
        skipped: Name and reason of each file that is no scan.
    """

    scans: list[dict[str, Any]]
    problems: list[tuple[str, str]]
    skipped: list[tuple[str, str]]


def inspect(paths: Path | str | Sequence[Path | str]) -> InspectResult:
    """Look at the headers of all scans below some paths.

    Args:
        paths: Files and folders.

    Raises:
        DataError: A path does not exist, or there is not one scan.
    """
    from scanlore.scans.find import find_sources

    sources, skipped = find_sources(as_paths(paths))
    if not sources:
        raise no_scans(as_paths(paths), skipped)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(_header, sources))
    scans = [answer for answer in answers if isinstance(answer, dict)]
    problems = [answer for answer in answers if isinstance(answer, tuple)]
    return InspectResult(scans, problems, [(path.as_posix(), reason) for path, reason in skipped])


def _header(source: Any) -> dict[str, Any] | tuple[str, str]:
    from scanlore.scans.failures import reason_of
    from scanlore.scans.read import read_header

    try:
        return {"name": source.name} | asdict(read_header(source))
    except DataError as error:
        return source.name, reason_of(error)


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
    return DataError(f"no scans{seen}", where=where, fix="NIfTI, DICOM, PNG, JPEG and TIFF are read")
