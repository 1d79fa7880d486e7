"""What became of every file a build was given."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from scanlore.corpus.prepare import Given
from scanlore.corpus.reasons import count_rules
from scanlore.run import write_atomically
from scanlore.scans.metadata import hashed

if TYPE_CHECKING:
    import polars as pl

STATUSES = ("kept", "dropped", "failed")
Skipped = Sequence[tuple[Path, str]]


@dataclass(frozen=True)
class BuildResult:
    """What a build did.

    Attributes:
        out: The corpus folder.
        counts: Rows by status over the whole corpus: kept, dropped, failed.
        num_new: Sources read by this call.
        failed: Name and reason of every source given that cannot be read.
        num_gone: Scans of the corpus that are no longer below the paths given.
        skipped: Name and reason of the files that are no scans.
        rules: Rows by rule or kind of failure why they are not kept.
    """

    out: Path
    counts: dict[str, int]
    num_new: int
    failed: list[tuple[str, str]]
    num_gone: int = 0
    skipped: tuple[tuple[str, str], ...] = ()
    rules: dict[str, int] = field(default_factory=dict)


def status_counts(frame: pl.DataFrame) -> dict[str, int]:
    """Count the rows of each status."""
    counts = Counter(frame["status"])
    return {status: counts[status] for status in STATUSES}


def reasons_of(frame: pl.DataFrame) -> dict[str, int]:
    """Count the rows that are not kept by rule or kind of failure."""
    import polars as pl

    return count_rules(frame.filter(pl.col("status") != "kept").select("status", "reason").iter_rows())


def summarise(out: Path, frame: pl.DataFrame, sources: list[Given], skipped: Skipped, num_new: int) -> BuildResult:
    """Return what a build did, with the names of the files it was given."""
    import polars as pl

    names = {one.key: one.source.name for one in sources}
    roots = list({one.row["root"] for one in sources})
    bad = frame.filter(pl.col("status") == "failed").select("source", "reason")
    gone = frame.filter(pl.col("root").is_in(roots) & ~pl.col("source").is_in(list(names)))
    return BuildResult(
        out=out,
        counts=status_counts(frame),
        num_new=num_new,
        failed=[(names[source], reason) for source, reason in bad.iter_rows() if source in names],
        num_gone=gone["source"].n_unique(),
        skipped=tuple((path.as_posix(), reason) for path, reason in skipped),
        rules=reasons_of(frame),
    )


def write_account(out: Path, frame: pl.DataFrame, sources: Sequence[Given] = (), skipped: Skipped = ()) -> None:
    """Write `data.json`: what became of every file of every call, by salted hashes of the names.

    Files in archives count as files; the pages of one file count once.

    Args:
        out: The corpus folder.
        frame: The index, with the flags that hold.
        sources: Of this call; none where no file was looked at.
        skipped: Files of this call that are no scans, with the reason.
    """
    import polars as pl

    salt = sources[0].origin.salt if sources else None
    new = {str(hashed(salt, path.absolute())): reason for path, reason in skipped}
    all_skipped = _skipped_before(out) | new
    per_source = frame.group_by("source", maintain_order=True).agg(pl.col("num_files", "status", "reason").first())
    bad = per_source.filter(pl.col("status") == "failed").select("source", "num_files", "reason")
    in_scans = int(per_source["num_files"].sum())
    facts = {
        "num_files": in_scans + len(all_skipped),
        "num_files_in_scans": in_scans,
        "num_files_skipped": len(all_skipped),
        "num_scans": per_source.height,
        "num_rows": status_counts(frame),
        "failed": bad.to_dicts(),
        "skipped": [{"file": name, "reason": reason} for name, reason in all_skipped.items()],
    }
    write_atomically(out / "data.json", json.dumps(facts, indent=2) + "\n")


def _skipped_before(out: Path) -> dict[str, str]:
    try:
        known = json.loads((out / "data.json").read_text(encoding="utf-8"))
        return {str(one["file"]): str(one["reason"]) for one in known["skipped"]}
    except (OSError, ValueError, KeyError, TypeError):  # not there yet, or cut off: counted anew
        return {}
