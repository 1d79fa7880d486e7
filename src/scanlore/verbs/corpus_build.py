"""`scanlore corpus build`: from folders of scans to a corpus."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from scanlore.config import apply_overrides, validate
from scanlore.corpus.settings import CorpusSettings
from scanlore.progress import progress_bar

if TYPE_CHECKING:
    from scanlore.corpus.build import BuildResult


def build_corpus(
    paths: Path | str | Sequence[Path | str],
    out: str | Path,
    overrides: Sequence[str] = (),
    workers: int | None = None,
) -> BuildResult:
    """Index, curate and store all scans below some paths.

    The same call goes on with an interrupted build, and does nothing when nothing is new.

    Args:
        paths: Files and folders.
        out: The corpus folder.
        overrides: Dotted settings, e.g. `["curation.slices_above=48"]`.
        workers: Processes that read scans; the number of cores by default.

    Raises:
        ConfigError: A setting is wrong, or `out` holds something else.
        DataError: No scan was found or kept, the disk is full, or the store is damaged.
    """
    settings = validate(CorpusSettings, apply_overrides({}, overrides), where="corpus build")
    from scanlore.corpus.build import build, check_out
    from scanlore.scans.find import find_sources
    from scanlore.verbs.inspect import as_paths, no_scans

    check_out(Path(out), settings)
    sources, skipped = find_sources(as_paths(paths))
    if not sources:
        raise no_scans(as_paths(paths), skipped)
    num_workers = workers or len(os.sched_getaffinity(0))
    with progress_bar("building", "scans") as advance:
        result = build(sources, Path(out), settings, num_workers, advance)
    return replace(result, skipped=tuple((path.as_posix(), reason) for path, reason in skipped))
