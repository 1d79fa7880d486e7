"""Rules applied to a corpus that exists, or that would: flags change in seconds, and no voxel is read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from scanlore.corpus.account import write_account
from scanlore.corpus.curate import curate
from scanlore.corpus.index import index_frame, read_index, read_manifest, write_index
from scanlore.corpus.place import changing, stored_rules, write_manifest
from scanlore.corpus.prepare import Given, header_rows
from scanlore.corpus.settings import Curation
from scanlore.errors import DataError

if TYPE_CHECKING:
    import polars as pl


def set_flags(out: Path, change: Callable[[pl.DataFrame], pl.DataFrame], rules: Curation | None = None) -> pl.DataFrame:
    """Change the index of a finished corpus and apply its rules, or others, anew.

    Args:
        out: The corpus folder.
        change: From the index to the index before rules.
        rules: To use from now on.

    Returns:
        The new index.

    Raises:
        DataError: It is no corpus, or an unfinished one.
        ConfigError: Another process is changing it.
    """
    read_manifest(out)
    if (out / "journal.jsonl").exists() or not (out / "index.parquet").is_file():
        raise DataError("the corpus is unfinished", where=out, fix="run the same `scanlore corpus build` again")
    with changing(out):
        chosen = stored_rules(out) if rules is None else rules
        flagged = curate(change(read_index(out)), chosen)
        write_flags(out, flagged, chosen)
        write_account(out, flagged)
    return flagged


def write_flags(out: Path, frame: pl.DataFrame, rules: Curation) -> None:
    """Write rules, then flags. A kill between the two is mended by the next call, which sets all flags again."""
    manifest = read_manifest(out)
    if manifest["rules"] != rules.model_dump(mode="json"):
        write_manifest(out, rules, manifest["salt"])
    write_index(out, frame)


def preview(sources: list[Given], out: Path, rules: Curation | None) -> pl.DataFrame:
    """Return the index that rules would make of a corpus and further sources; reads headers alone and writes nothing.

    What only voxels can tell (empty, label maps, duplicates) is known of scans in the corpus, and passes for others.

    Args:
        sources: Those the corpus has are taken from its index.
        out: A corpus, or the place of one to be.
        rules: `None` for those of the corpus, or the defaults.
    """
    import polars as pl

    has_corpus = (out / "index.parquet").is_file()
    old = read_index(out) if has_corpus else index_frame([])
    chosen = rules or (stored_rules(out) if has_corpus else Curation())
    known = set(zip(old["source"], old["bytes"], old["modified"], strict=True))
    unknown = [one for one in sources if (one.key, one.row["bytes"], one.row["modified"]) not in known]
    new = index_frame([row for one in unknown for row in header_rows(one)])
    return curate(pl.concat([old.join(new, on="source", how="anti", maintain_order="left"), new]), chosen)
