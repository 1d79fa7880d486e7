"""The scans below some paths, with what is known of them before they are opened."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from scanlore.errors import ConfigError

if TYPE_CHECKING:
    from scanlore.corpus.prepare import Given
    from scanlore.scans.geometry import AssumedSpacing

NAMED = re.compile(r"([A-Za-z0-9][\w.-]{0,59})=(.+)")


@dataclass(frozen=True)
class Found:
    """What lies below the paths of a corpus.

    Attributes:
        sources: The scans.
        skipped: Files that are no scans, with the reason.
    """

    sources: list[Given]
    skipped: list[tuple[Path, str]]


def find_given(
    paths: Sequence[str | Path],
    secret: Callable[[], bytes],
    assume_spacing: AssumedSpacing | None = None,
    licence: str | None = None,
) -> Found:
    """Find scans.

    Args:
        paths: Files and folders, `NAME=PATH` to name their dataset. A folder that is called as a dataset of the
            catalogue has that one's name; the names of other folders could be those of patients and are not kept.
        secret: Returns the salt of the project; called when there are scans.
        assume_spacing: As `scanlore.scans.read.read_scan` takes it.
        licence: Of all that is found; by default that of the catalogue.

    Raises:
        DataError: A path does not exist, or there is not one scan.
    """
    from scanlore.corpus.prepare import Origin, given
    from scanlore.scans.find import find_sources
    from scanlore.verbs.inspect import no_scans

    named = [split_name(path) for path in paths]
    folders = [path for _, path in named]
    sources, skipped = find_sources(folders)
    if not sources:
        raise no_scans(folders, skipped)
    salt = secret()
    known = {path: _dataset(name, path) for name, path in named}
    origins = {
        path: Origin(salt, dataset, licence or known_licence, assume_spacing)
        for path, (dataset, known_licence) in known.items()
    }
    nothing = Origin(salt, None, licence, assume_spacing)
    return Found([given(source, origins.get(source.root or source.path, nothing)) for source in sources], skipped)


def split_name(path: str | Path) -> tuple[str | None, Path]:
    """Return name and path of `NAME=PATH`; a path that exists as it is has no name."""
    match = NAMED.fullmatch(str(path))
    if match is None or Path(path).exists():
        return None, Path(path)
    return match[1], Path(match[2])


def parse_spacing(text: str | None) -> AssumedSpacing | None:
    """Read what `--assume-spacing` was given.

    Args:
        text: `header`, or three numbers of millimetres such as `1,1,3`.

    Raises:
        ConfigError: It is neither.
    """
    if text is None or text == "header":
        return text  # type: ignore[return-value]
    try:
        x, y, z = (float(number) for number in re.split("[,x]", text))
    except ValueError:
        x = y = z = 0.0
    if not all(0 < number < 1000 for number in (x, y, z)):
        fix = "`header` for the voxel sizes of the header, or millimetres along the axes of the file, such as 1,1,3"
        raise ConfigError(f"is no spacing: {text}", where="--assume-spacing", fix=fix)
    return x, y, z


def _dataset(name: str | None, path: Path) -> tuple[str | None, str | None]:
    from scanlore.tasks.catalogue import dataset, dataset_named

    known = dataset_named(name or path.resolve().name)
    return name or known, dataset(known).licence if known else None
