"""`scanlore corpus show`: what a corpus holds and what was dropped, and why."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class CorpusSummary:
    """Counts of a corpus.

    Attributes:
        counts: Rows by status: kept, dropped, failed.
        kinds: Kept rows by spatial axes and format: scans, channels, high-resolution scans, median shape and spacing.
        reasons: Rows by rule or kind of failure why they are not kept.
        failed: Source and reason of every scan that could not be read.
        store_bytes: Size of the voxel store.
    """

    counts: dict[str, int]
    kinds: list[dict[str, Any]]
    reasons: dict[str, int]
    failed: list[tuple[str, str]]
    store_bytes: int


def show_corpus(corpus: str | Path) -> CorpusSummary:
    """Summarise a corpus.

    Raises:
        DataError: It is no corpus, or unfinished.
    """
    import polars as pl

    from scanlore.corpus.index import Corpus
    from scanlore.corpus.reasons import count_rules

    opened = Corpus(Path(corpus))
    frame = opened.frame()
    kept = frame.filter(pl.col("status") == "kept")
    kinds = [_kind(group) for _, group in kept.group_by("ndim", "format", maintain_order=True)]
    lost = frame.filter(pl.col("status") != "kept")
    failed = frame.filter(pl.col("status") == "failed")
    return CorpusSummary(
        counts={status: frame.filter(pl.col("status") == status).height for status in ("kept", "dropped", "failed")},
        kinds=kinds,
        reasons=count_rules(lost.select("status", "reason").iter_rows()),
        failed=list(failed.select("source", "reason").iter_rows()),
        store_bytes=sum(path.stat().st_size for path in (opened.root / "shards").glob("*.b2s")),
    )


def _kind(group: Any) -> dict[str, Any]:
    shapes = list(zip(*group["scan_shape"].to_list(), strict=True))
    spacings = list(zip(*group["spacing"].drop_nulls().to_list(), strict=True))
    return {
        "kind": f"{group['ndim'][0]}D {group['format'][0]}",
        "scans": group["source"].n_unique(),
        "channels": group.height,
        "highres": int(group["highres"].sum()),
        "median shape": " x ".join(f"{_median(axis):.0f}" for axis in shapes),
        "median spacing (mm)": " x ".join(f"{_median(axis):.2f}" for axis in spacings) or "unknown",
    }


def _median(values: Any) -> float:
    import statistics

    return float(statistics.median(values))
