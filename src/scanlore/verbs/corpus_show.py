"""`scanlore corpus show`: what a corpus holds and what was dropped, and why; in numbers and as one page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scanlore.errors import ConfigError

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class CorpusSummary:
    """Counts of a corpus; a scan of several channels counts once for each.

    Attributes:
        counts: Rows by status: kept, dropped, failed.
        kinds: Kept rows by spatial axes and format: scans, channels, high-resolution scans, median shape and spacing.
        datasets: For each dataset its rows by status; `unknown` where none is known, as in the following.
        modalities: The same for each modality.
        body_parts: The same for each body part.
        sequences: The same for each MR sequence.
        reasons: Rows by rule, with its limit, or kind of failure why they are not kept.
        failed: Every scan that could not be read, by the hash of its source or the name that was found for it, and the
            reason.
        dropped: Name and reason of the dropped scans whose names were found.
        store_bytes: Size of the voxel store.
        page: The page, where one was written.
    """

    counts: dict[str, int]
    kinds: list[dict[str, Any]]
    datasets: list[dict[str, Any]]
    modalities: list[dict[str, Any]]
    body_parts: list[dict[str, Any]]
    sequences: list[dict[str, Any]]
    reasons: dict[str, int]
    failed: list[tuple[str, str]]
    dropped: list[tuple[str, str]]
    store_bytes: int
    page: Path | None = None


def show_corpus(
    corpus: str | Path,
    html: str | Path | None = None,
    names: Sequence[str | Path] = (),
    salt: str | Path | None = None,
) -> CorpusSummary:
    """Summarise a corpus.

    Args:
        corpus: Folder made by `build_corpus`.
        html: Where to write the page; `None` writes none. No name of a file is ever on it.
        names: Files and folders of scans: what failed among them is listed by its name instead of a hash, and what
            was dropped is listed, too.
        salt: File with the secret of the project, for `names`; by default `scanlore.salt` beside the corpus.

    Raises:
        DataError: It is no corpus, or unfinished, or a path of `names` does not exist.
        ConfigError: The salt is not the one of the corpus, or the page cannot be written.
    """
    from scanlore.corpus.index import Corpus
    from scanlore.corpus.place import corpus_salt
    from scanlore.reports.corpus_counts import COUNTED, PICTURED

    opened = Corpus(Path(corpus))
    known = names_of(names, corpus_salt(opened.root, None if salt is None else Path(salt))) if names else {}
    frame = opened.frame(COUNTED if html is None else COUNTED + PICTURED)
    store_bytes = sum(path.stat().st_size for path in (opened.root / "shards").glob("*.b2s"))
    page = None if html is None else _write_page(Path(html), opened, frame, store_bytes)
    return _summary(frame, known, store_bytes, page)


def names_of(paths: Sequence[str | Path], salt: bytes) -> dict[str, str]:
    """Return the name of every scan below some paths by what an index calls it.

    Args:
        paths: Files and folders.
        salt: Of the project.

    Raises:
        DataError: A path does not exist.
    """
    from scanlore.corpus.prepare import source_name
    from scanlore.scans.find import find_sources
    from scanlore.scans.metadata import hashed

    sources, _ = find_sources([Path(path) for path in paths])
    return {str(hashed(salt, source_name(source))): source.name for source in sources}


def _write_page(path: Path, corpus: Any, frame: pl.DataFrame, store_bytes: int) -> Path:
    from scanlore.reports.corpus_page import write_corpus_page

    try:
        write_corpus_page(path, corpus.root, frame, store_bytes, corpus.fingerprint())
    except OSError as error:
        raise ConfigError(f"cannot be written: {error.strerror}", where=path, fix="choose another --html") from None
    return path


def _summary(frame: pl.DataFrame, names: dict[str, str], store_bytes: int, page: Path | None) -> CorpusSummary:
    import polars as pl

    from scanlore.reports.corpus_counts import STATUSES, by_status, described, rules

    words = described(frame)
    kinds = frame.filter(pl.col("status") == "kept").group_by("ndim", "format", maintain_order=True)
    reasons = sorted(rules(frame), key=lambda row: -row["rows"])
    return CorpusSummary(
        counts={status: frame.filter(pl.col("status") == status).height for status in STATUSES},
        kinds=[_kind(group) for _, group in kinds],
        datasets=by_status(words, "dataset"),
        modalities=by_status(words, "modality"),
        body_parts=by_status(words, "body_part"),
        sequences=by_status(words, "sequence"),
        reasons={row["rule"]: row["rows"] for row in reasons},
        failed=[(names.get(source, source), reason) for source, reason in _reasons(frame, "failed")],
        dropped=[(names[source], reason) for source, reason in _reasons(frame, "dropped", list(names))],
        store_bytes=store_bytes,
        page=page,
    )


def _reasons(frame: pl.DataFrame, status: str, sources: list[str] | None = None) -> list[tuple[str, str]]:
    """Return source and reason of the rows of a status, all or those of some sources, each once."""
    import polars as pl

    rows = frame.filter(pl.col("status") == status)
    if sources is not None:
        rows = rows.filter(pl.col("source").is_in(sources))
    return rows.select("source", "reason").unique().sort("reason", "source").rows()


def _kind(group: pl.DataFrame) -> dict[str, Any]:
    ndim = group["ndim"][0]
    return {
        "kind": f"{ndim}D {group['format'][0]}",
        "scans": group["source"].n_unique(),
        "channels": group.height,
        "highres": int(group["highres"].sum()),
        "median shape": _medians(group, "scan_shape", ndim, ".0f"),
        "median spacing (mm)": _medians(group, "spacing", ndim, ".2f"),
    }


def _medians(group: pl.DataFrame, column: str, ndim: int, form: str) -> str:
    medians: list[Any] = [group[column].list.get(axis, null_on_oob=True).median() for axis in range(ndim)]
    return "unknown" if None in medians else " x ".join(f"{median:{form}}" for median in medians)
