"""`scanlore corpus join`, `verify` and `export`: what is done to a corpus that is built."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from scanlore.errors import ConfigError, DataError, nearest

if TYPE_CHECKING:
    import polars as pl

    from scanlore.corpus.export import ExportResult
    from scanlore.corpus.join import JoinReport


KEYS = {"participants.tsv": "participant_id", "dataset.json": "image"}
"""What names the scans in files of fixed columns: BIDS; MSD and nnU-Net."""


LOST = "damaged in the store"
"""Rule of the rows whose voxels were lost and could not be stored again."""


@dataclass(frozen=True)
class VerifyResult:
    """What was found in a store.

    Attributes:
        checked: Entries compared with their checksums.
        damaged: Rows whose voxels are damaged or missing, those included that were lost before.
        mended: Sources read and stored again.
        lost: Sources that could not be found to be read again; their rows are marked as failed.
        sources: What the index calls the damaged ones.
    """

    checked: int
    damaged: int
    mended: int = 0
    lost: int = 0
    sources: list[str] = field(default_factory=list)


def join_table(
    corpus: str | Path,
    table: str | Path,
    key: str | None = None,
    on: str | None = None,
    columns: Mapping[str, str] | None = None,
    salt: str | Path | None = None,
) -> JoinReport:
    """Add what a table knows to the index of a corpus, and apply its rules anew.

    Args:
        corpus: Folder made by `build_corpus`.
        table: CSV, TSV or Parquet; a BIDS `participants.tsv`; the `dataset.json` of the Medical Segmentation Decathlon
            or of nnU-Net.
        key: Column of the table that names scans or patients. Those files with a fixed layout need none.
        on: Column of the index it is compared with: patient, study, series, file or relative; by default the one that
            matches most.
        columns: Index column to table column, where their names differ.
        salt: File with the secret of the project; by default `scanlore.salt` beside the corpus.

    Raises:
        ConfigError: Key or column do not exist, or the salt is another one.
        DataError: The table cannot be read, contradicts itself, or matches nothing.
    """
    from scanlore.corpus.flags import set_flags
    from scanlore.corpus.index import read_manifest
    from scanlore.corpus.join import join
    from scanlore.corpus.place import corpus_salt
    from scanlore.corpus.tables import read_table

    place = Path(corpus)
    read_manifest(place)
    secret = corpus_salt(place, None if salt is None else Path(salt))
    chosen, rows = key_of(Path(table), key), read_table(Path(table))
    reports: list[JoinReport] = []

    def change(frame: pl.DataFrame) -> pl.DataFrame:
        joined, report = join(frame, rows, chosen, on, secret, columns)
        reports.append(report)
        return joined

    with about(Path(table)):
        set_flags(place, change)
    return reports[0]


@contextmanager
def about(table: Path) -> Iterator[None]:
    """Name the table in what is wrong with it."""
    try:
        yield
    except DataError as error:
        if error.where is not None:
            raise
        raise DataError(error.what, where=table, fix=error.fix) from None


def key_of(table: Path, key: str | None) -> str:
    """Return the column of a table that names scans or patients.

    Raises:
        ConfigError: None is given, and the file is none whose columns are fixed.
    """
    known = KEYS.get(table.name)
    if key is None and known is None:
        fix = "name the column of the table that holds patients, series or files"
        raise ConfigError("is needed", where="--key", fix=fix)
    return str(key or known)


def pairs(columns: Sequence[str]) -> dict[str, str]:
    """Read `OURS=THEIRS`.

    Raises:
        ConfigError: One is not written so.
    """
    found = dict(column.partition("=")[::2] for column in columns)
    if not all(found) or not all(found.values()):
        fix = "OURS=THEIRS, such as sex=Geschlecht"
        raise ConfigError(f"is no pair of columns: {', '.join(columns)}", where="--column", fix=fix)
    return found


def verify_corpus(
    corpus: str | Path, paths: Sequence[str | Path] = (), salt: str | Path | None = None, workers: int | None = None
) -> VerifyResult:
    """Compare every stored entry with its checksum, and mend what is damaged from the scans themselves.

    Args:
        corpus: Folder made by `build_corpus`.
        paths: Where the scans lie. Damaged ones that are found there are stored again; others are marked as failed, so
            that nothing uses them. Without paths nothing is written.
        salt: File with the secret of the project; by default `scanlore.salt` beside the corpus.
        workers: Processes that read scans; the number of cores by default.

    Raises:
        DataError: It is no corpus, or unfinished.
    """
    import polars as pl

    from scanlore.corpus.index import Corpus
    from scanlore.corpus.verify import damaged

    place = Path(corpus)
    frame = Corpus(place).frame()
    checked = frame["shard"].drop_nulls().len()
    lost_before = frame.filter(pl.col("rule") == LOST)
    bad = pl.concat([frame[damaged(place, frame)], lost_before])
    sources = bad["source"].unique(maintain_order=True).to_list()
    if not sources or not paths:
        return VerifyResult(checked, bad.height, sources=sources)
    from scanlore.corpus.build import BuildPlan, build
    from scanlore.corpus.flags import set_flags
    from scanlore.corpus.place import corpus_salt
    from scanlore.verbs.corpus_build import num_cores
    from scanlore.verbs.corpus_sources import find_given

    file = None if salt is None else Path(salt)
    given = find_given(paths, lambda: corpus_salt(place, file)).sources
    wanted = set(sources)
    found = [one for one in given if one.key in wanted]
    names = [one.key for one in found]
    lost = sorted(wanted.difference(names))
    if lost:
        set_flags(place, lambda index: _without_voxels(index, pl.col("source").is_in(lost)))
    if found:
        build(found, place, BuildPlan(None, workers or num_cores(), again=names))
    return VerifyResult(checked, bad.height, len(names), len(lost), sources)


def _without_voxels(index: pl.DataFrame, rows: pl.Expr) -> pl.DataFrame:
    """Mark rows as failed, in a state that makes the next build read their files again."""
    import polars as pl

    changes = {
        "status": "failed",
        "rule": LOST,
        "reason": f"{LOST}: the stored voxels are not those that were written",
        "bytes": -1,
        "shard": None,
        "level_offsets": None,
    }
    return index.with_columns(
        pl.when(rows).then(pl.lit(value, index.schema[name])).otherwise(pl.col(name)).alias(name)
        for name, value in changes.items()
    )


def export_corpus(
    corpus: str | Path, out: str | Path, where: Sequence[str] = (), limit: int | None = None
) -> ExportResult:
    """Write kept scans of a corpus as NIfTI files, 2D images as PNG or TIFF, with a table of their metadata.

    Args:
        corpus: Folder made by `build_corpus`.
        out: A new or empty folder.
        where: Conditions on columns of the index, e.g. `["modality=MR", "split=train"]`; several values of one column
            are alternatives.
        limit: At most this many.

    Raises:
        ConfigError: A condition names no column, or `out` is not empty.
        DataError: It is no corpus, nothing meets the conditions, or the store is damaged.
    """
    from scanlore.corpus.export import export
    from scanlore.corpus.index import Corpus

    opened = Corpus(Path(corpus))
    rows = meeting(opened.frame(), where)
    if not rows.height:
        raise DataError(f"no scan meets {', '.join(where) or 'status=kept'}", where=corpus, fix="see `corpus show`")
    return export(opened, Path(out), rows if limit is None else rows.head(limit))


def meeting(frame: pl.DataFrame, where: Sequence[str]) -> pl.DataFrame:
    """Return the stored rows that meet conditions such as `modality=MR`; the kept ones, if none is about the status.

    Raises:
        ConfigError: A condition is no `COLUMN=VALUE`, or names no column.
    """
    import polars as pl

    wanted: dict[str, list[str]] = {}
    single = [name for name, kind in frame.schema.items() if not kind.is_nested()]
    for condition in where:
        name, equals, value = condition.partition("=")
        if not equals or name not in single:
            fix = f"COLUMN=VALUE with a column of the index, e.g. modality=MR{nearest(name, single) if equals else ''}"
            raise ConfigError(f"is no condition: {condition}", where="--where", fix=fix)
        wanted.setdefault(name, []).append(value)
    wanted.setdefault("status", ["kept"])
    found = frame.filter(pl.col("shard").is_not_null())
    for name, values in wanted.items():
        found = found.filter(pl.col(name).cast(pl.String).is_in(values))
    return found
