"""Building a corpus: many processes prepare scans, one writer records them in order, rules set flags at the end.

Sources are recorded in the order in which they were found, so that a corpus does not depend on the number of workers.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from scanlore.corpus.account import BuildResult, Skipped, summarise, write_account
from scanlore.corpus.curate import curate
from scanlore.corpus.flags import write_flags
from scanlore.corpus.index import read_index
from scanlore.corpus.journal import Journal
from scanlore.corpus.place import changing, check_out, stored_rules, write_manifest
from scanlore.corpus.prepare import Given, Prepared
from scanlore.corpus.salt import salt_check
from scanlore.corpus.settings import Curation
from scanlore.corpus.workers import in_processes, in_this_process, on_cluster
from scanlore.errors import DataError
from scanlore.run import make_folder

if TYPE_CHECKING:
    import polars as pl

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class BuildPlan:
    """How to build.

    Attributes:
        rules: Which scans are kept; `None` for those the corpus has, or the defaults for a new one.
        num_workers: Processes that read; 0 reads in this one, where a file that crashes its reader ends the build.
        scheduler: Address of a Dask scheduler whose workers read instead.
        again: Sources to read and store again, because their stored voxels are damaged.
    """

    rules: Curation | None = None
    num_workers: int = 0
    scheduler: str | None = None
    again: Sequence[str] = ()


def build(
    sources: list[Given],
    out: Path,
    plan: BuildPlan,
    skipped: Skipped = (),
    progress: Progress = lambda done, total: None,
) -> BuildResult:
    """Add sources to the corpus at `out`, which is made when it does not exist; resumes where an earlier call stopped.

    Args:
        sources: From `scanlore.scans.find.find_sources`, with what is known of each, all with the corpus's salt.
        out: The corpus folder.
        plan: How.
        skipped: Files that are no scans, with the reason.
        progress: Called with the number of sources done and in all.

    Raises:
        ConfigError: `out` is something else, or is being built by another process.
        DataError: The disk is full, the store is damaged, or not one scan is kept.
    """
    check_out(out)
    make_folder(out)
    with changing(out):
        rules = _begin(out, plan, sources)
        journal = Journal(out, check_store=not plan.again)
        _forget(out, journal, plan.again)
        todo = [one for one in sources if not _is_done(one, journal)]
        if todo:
            _read(todo, journal, plan, progress)
        frame = curate(_with_names(journal.frame(), sources), rules)
        write_flags(out, frame, rules)
        journal.close()
        write_account(out, frame, sources, skipped)
    result = summarise(out, frame, sources, skipped, len(todo))
    if not result.counts["kept"]:
        worst = "; ".join(f"{count} x {rule}" for rule, count in list(result.rules.items())[:3])
        fix = "`scanlore corpus show` lists them; other rules read nothing again: `scanlore corpus curate`"
        raise DataError(f"no scan is kept: {worst}", where=out, fix=fix)
    return result


def _begin(out: Path, plan: BuildPlan, sources: list[Given]) -> Curation:
    """Write the manifest of a new corpus; return the rules that hold."""
    if (out / "corpus.json").is_file():
        return plan.rules or stored_rules(out)
    rules = plan.rules or Curation()
    write_manifest(out, rules, salt_check(sources[0].origin.salt))
    return rules


def _is_done(one: Given, journal: Journal) -> bool:
    # A spacing to assume may mend what could not be read without
    return journal.is_known(one.row, again=one.origin.assume_spacing is not None)


def _forget(out: Path, journal: Journal, sources: Sequence[str]) -> None:
    if not sources:
        return
    wanted = set(sources)
    rows = read_index(out, ["source", "shard", "level_offsets"]).drop_nulls().iter_rows()
    journal.forget(wanted)
    journal.forget_places((shard, offsets[0]) for source, shard, offsets in rows if source in wanted)


def _read(todo: list[Given], journal: Journal, plan: BuildPlan, progress: Progress) -> None:
    writer = journal.start()
    with contextlib.closing(_prepared(todo, plan)) as results:
        for done, prepared in enumerate(results, start=1):
            journal.record(prepared, writer)
            progress(done, len(todo))
    writer.close()


def _prepared(todo: list[Given], plan: BuildPlan) -> Generator[Prepared]:
    if plan.scheduler is not None:
        return on_cluster(todo, plan.scheduler)
    return in_processes(todo, plan.num_workers) if plan.num_workers else in_this_process(todo)


def _with_names(frame: pl.DataFrame, sources: list[Given]) -> pl.DataFrame:
    """Give scans that were known before the name of the dataset this call has for them."""
    import polars as pl

    named = [one for one in sources if one.origin.dataset]
    if not named:
        return frame
    columns = {
        "source": [one.key for one in named],
        "new_dataset": [one.origin.dataset for one in named],
        "new_licence": [one.origin.licence for one in named],
    }
    names = pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.String)).unique("source", maintain_order=True)
    joined = frame.join(names, on="source", how="left", maintain_order="left")
    dataset, licence = pl.coalesce("new_dataset", "dataset"), pl.coalesce("new_licence", "licence")
    return joined.with_columns(dataset.alias("dataset"), licence.alias("licence")).select(frame.columns)
