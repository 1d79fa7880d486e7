"""`scanlore corpus build` and `curate`: from folders of scans to a corpus, and which of them are kept."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from scanlore.config import apply_overrides, validate
from scanlore.corpus.settings import Curation
from scanlore.corpus.settings import load_rules as named_rules
from scanlore.progress import progress_bar

if TYPE_CHECKING:
    import polars as pl

    from scanlore.corpus.account import BuildResult
    from scanlore.scans.geometry import AssumedSpacing


@dataclass(frozen=True)
class FlagsResult:
    """What rules make, or would make, of a corpus.

    Attributes:
        counts: Rows by status: kept, dropped, failed.
        rules: Rows by rule or kind of failure why they are not kept.
        datasets: Rows by dataset: kept, dropped, failed.
        changed: Rows whose status or reason is another than before.
        from_headers: Sources of which only the headers were read.
    """

    counts: dict[str, int]
    rules: dict[str, int]
    datasets: list[dict[str, object]]
    changed: int
    from_headers: int = 0


def build_corpus(
    paths: Path | str | Sequence[Path | str],
    out: str | Path,
    overrides: Sequence[str] = (),
    workers: int | None = None,
    rules: str | None = None,
    scheduler: str | None = None,
    assume_spacing: str | None = None,
    salt: str | Path | None = None,
    licence: str | None = None,
) -> BuildResult:
    """Index, store and curate all scans below some paths.

    The same call goes on with an interrupted build, and does nothing when nothing is new. Every scan that can be read
    is stored; rules only decide which are kept for use, so that other rules read nothing again.

    Args:
        paths: Files and folders; `NAME=PATH` names the dataset.
        out: The corpus folder.
        overrides: Rules changed one by one, e.g. `["slices_above=48"]`.
        workers: Processes that read scans; the number of cores by default.
        rules: Name of shipped rules, or a YAML file; by default those the corpus has, `default` for a new one.
        scheduler: Address of a Dask scheduler whose workers read the scans.
        assume_spacing: For scans without usable geometry: `header`, or millimetres such as `1,1,3`.
        salt: File with the secret of the project; by default `scanlore.salt` beside the corpus.
        licence: Of the scans.

    Raises:
        ConfigError: A rule is wrong, or `out` holds something else.
        DataError: No scan was found or kept, the disk is full, or the store is damaged.
    """
    spacing, chosen = _validated(out, rules, overrides, assume_spacing)
    from scanlore.corpus.build import BuildPlan, build
    from scanlore.corpus.place import check_out, corpus_salt
    from scanlore.corpus.translate import LICENCE
    from scanlore.corpus.workers import check_cluster
    from scanlore.errors import ConfigError
    from scanlore.verbs.corpus_sources import find_given
    from scanlore.verbs.inspect import as_paths

    place = Path(out)
    check_out(place)
    if licence is not None and not LICENCE.fullmatch(licence):
        raise ConfigError(f"is no name of a licence: {licence}", where="--licence", fix="such as CC-BY-4.0")
    if scheduler is not None:
        check_cluster(scheduler)
    file = None if salt is None else Path(salt)
    found = find_given(as_paths(paths), lambda: corpus_salt(place, file), spacing, licence)
    plan = BuildPlan(chosen, workers or num_cores(), scheduler)
    with progress_bar("building", "scans") as advance:
        return build(found.sources, place, plan, found.skipped, advance)


def preview_corpus(
    paths: Path | str | Sequence[Path | str],
    out: str | Path,
    overrides: Sequence[str] = (),
    rules: str | None = None,
    assume_spacing: str | None = None,
    salt: str | Path | None = None,
) -> FlagsResult:
    """Say what `build_corpus` would keep and drop; reads headers alone and writes nothing.

    Args:
        paths: As for `build_corpus`, as are the others.
        out: The corpus folder, which need not exist.
        overrides: Rules changed one by one.
        rules: Name of shipped rules, or a YAML file.
        assume_spacing: For scans without usable geometry.
        salt: File with the secret of the project.

    Raises:
        ConfigError: A rule is wrong, or `out` holds something else.
        DataError: No scan was found.
    """
    spacing, chosen = _validated(out, rules, overrides, assume_spacing)
    from scanlore.corpus.flags import preview
    from scanlore.corpus.place import check_out, corpus_salt
    from scanlore.verbs.corpus_sources import find_given
    from scanlore.verbs.inspect import as_paths

    place = Path(out)
    check_out(place)
    is_new = not (place / "corpus.json").is_file()
    file = None if salt is None else Path(salt)
    # A corpus that does not exist needs a salt for this call alone
    found = find_given(as_paths(paths), lambda: b"preview" if is_new else corpus_salt(place, file), spacing)
    frame = preview(found.sources, place, chosen)
    unread = frame["minimum"].is_null() & (frame["status"] != "failed")
    return _flags(frame, None, frame.filter(unread)["source"].n_unique())


def curate_corpus(
    corpus: str | Path, rules: str | None = None, overrides: Sequence[str] = (), dry_run: bool = False
) -> FlagsResult:
    """Decide anew which scans of a corpus are kept; takes seconds and reads no voxel.

    Args:
        corpus: Folder made by `build_corpus`.
        rules: Name of shipped rules, or a YAML file; by default those the corpus has.
        overrides: Rules changed one by one, e.g. `["slices_above=48"]`.
        dry_run: Say what would change, and write nothing.

    Raises:
        ConfigError: A rule is wrong.
        DataError: It is no corpus, or unfinished.
    """
    from scanlore.corpus.curate import curate
    from scanlore.corpus.flags import set_flags
    from scanlore.corpus.index import Corpus
    from scanlore.corpus.place import stored_rules

    place = Path(corpus)
    before = Corpus(place).frame()
    chosen = load_rules(place, rules, overrides) or stored_rules(place)
    after = curate(before, chosen) if dry_run else set_flags(place, lambda frame: frame, chosen)
    return _flags(after, before)


def load_rules(out: Path, rules: str | None, overrides: Sequence[str]) -> Curation | None:
    """Return the rules asked for; `None` where nothing was asked.

    Single changes alone are made to the rules the corpus has.

    Raises:
        ConfigError: There are no such rules, or a value is wrong.
    """
    if rules is not None:
        return named_rules(rules, overrides)
    if not overrides:
        return None
    if not (out / "corpus.json").is_file():
        return named_rules("default", overrides)
    from scanlore.corpus.place import stored_rules

    stored = stored_rules(out).model_dump(mode="json")
    return validate(Curation, apply_overrides(stored, overrides), where="the rules of the corpus")


def _validated(
    out: str | Path, rules: str | None, overrides: Sequence[str], assume_spacing: str | None
) -> tuple[AssumedSpacing | None, Curation | None]:
    from scanlore.verbs.corpus_sources import parse_spacing

    return parse_spacing(assume_spacing), load_rules(Path(out), rules, overrides)


def num_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0))


def _flags(after: pl.DataFrame, before: pl.DataFrame | None, from_headers: int = 0) -> FlagsResult:
    import polars as pl

    from scanlore.corpus.account import STATUSES, reasons_of, status_counts

    columns = ["status", "reason"]
    changed = (
        0 if before is None else int((after.select(columns).hash_rows() != before.select(columns).hash_rows()).sum())
    )
    name = pl.col("dataset").fill_null("unknown").alias("dataset")
    per_status = [(pl.col("status") == status).sum().alias(status) for status in STATUSES]
    datasets = after.group_by(name, maintain_order=True).agg(per_status)
    return FlagsResult(status_counts(after), reasons_of(after), datasets.to_dicts(), changed, from_headers)
