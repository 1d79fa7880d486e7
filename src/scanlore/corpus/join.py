"""Metadata joined to an index from a table, by a key that the user names and nothing keeps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

import polars as pl

from scanlore.corpus.translate import match_columns, translate
from scanlore.errors import DataError, nearest
from scanlore.scans.metadata import hashed, stem

KEYS = ("relative", "series", "study", "file", "patient")
"""Columns of the index a key can be, the most particular first: it is taken where others match as many rows."""
_HASH, _ROW, _CHANNEL = "hash of the key", "row of the table", "channel of the table"
_NEW = " of the table"


@dataclass(frozen=True)
class JoinReport:
    """What a table gave.

    Attributes:
        num_rows_matched: Rows of the index that the table names.
        num_rows_unmatched: Rows of the index that it does not.
        num_table_rows_unused: Rows of the table that name nothing in the index.
        on: Column of the index that the key was compared with.
        columns: Rows of the index that took a value from the table, by column.
        unknown: Cells of the table that say nothing this package knows, by column of the index.
    """

    num_rows_matched: int
    num_rows_unmatched: int
    num_table_rows_unused: int
    on: str
    columns: dict[str, int]
    unknown: dict[str, int]


def join(
    frame: pl.DataFrame,
    table: pl.DataFrame,
    key: str,
    on: str | None,
    salt: bytes,
    columns: Mapping[str, str] | None = None,
) -> tuple[pl.DataFrame, JoinReport]:
    """Fill columns of an index from a table; where both say something, the table is right.

    Keys are compared as salted hashes: patients without `sub-`; files and series folders by name, with or without
    extension; paths by their end, so that a table may name them from further up.

    Args:
        frame: The index.
        table: From `scanlore.corpus.tables.read_table`. A column `channel` tells the channels of a file apart.
        key: Its column that names patients, studies, series, files or paths.
        on: Column of the index the key is compared with, one of `KEYS`; `None` for the one that
            most rows of the table match.
        salt: Of the corpus.
        columns: Which of the table's columns holds what, such as `{"sex": "Geschlecht"}`; others are found by name.

    Raises:
        DataError: Key or columns are not there, nothing matches, or rows for the same scan contradict each other.
    """
    _check_key(table.columns, key, on)
    values, unknown = translate(table, match_columns(table.columns, key, columns or {}), salt)
    chosen, candidates = _matching(frame, table, key, on, salt)
    channels = _channels(table)
    by = {_HASH: chosen} if channels is None else {_HASH: chosen, _CHANNEL: "channel"}
    rows = values.with_columns([] if channels is None else [channels]).with_row_index(_ROW)
    found = candidates.join(rows, on=_ROW, maintain_order="left")
    _refuse_contradictions(found, list(by), values.columns, key)
    unique = found.group_by(*by, maintain_order=True).agg(pl.col(values.columns).drop_nulls().first(), pl.col(_ROW))
    joined = frame.join(
        unique, left_on=list(by.values()), right_on=list(by), how="left", suffix=_NEW, maintain_order="left"
    )
    filled = joined.with_columns(pl.coalesce(f"{name}{_NEW}", name).alias(name) for name in values.columns)
    return filled.select(frame.columns), _report(joined, table.height, chosen, values.columns, unknown)


def _check_key(names: list[str], key: str, on: str | None) -> None:
    if key not in names:
        raise DataError(f"the table has no column {key!r}", fix=f"columns: {', '.join(names)}{nearest(key, names)}")
    if on is not None and on not in KEYS:
        raise DataError(f"a key is not compared with {on!r}", fix=f"one of {', '.join(KEYS)}{nearest(on, list(KEYS))}")


def _channels(table: pl.DataFrame) -> pl.Series | None:
    """Return the numbers of a column `channel`, if all its cells are some."""
    if "channel" not in table.columns:
        return None
    numbers = table["channel"].cast(pl.Int64, strict=False).alias(_CHANNEL)
    return None if numbers.null_count() else numbers


def _report(
    joined: pl.DataFrame, num_table_rows: int, on: str, names: list[str], unknown: dict[str, int]
) -> JoinReport:
    num_unmatched = joined[_ROW].null_count()
    return JoinReport(
        num_rows_matched=joined.height - num_unmatched,
        num_rows_unmatched=num_unmatched,
        num_table_rows_unused=num_table_rows - joined[_ROW].explode().drop_nulls().n_unique(),
        on=on,
        columns={name: joined.height - joined[f"{name}{_NEW}"].null_count() for name in names},
        unknown=unknown,
    )


def _matching(
    frame: pl.DataFrame, table: pl.DataFrame, key: str, on: str | None, salt: bytes
) -> tuple[str, pl.DataFrame]:
    """Return the column that matches most, and which rows of the table have which of its hashes."""
    texts = table[key].to_list()
    best: tuple[int, str, pl.DataFrame] | None = None
    for column in KEYS if on is None else (on,):
        pairs = _hashes(texts, column, salt, set(frame[column].drop_nulls()))
        candidates = pl.DataFrame(pairs, schema={_HASH: pl.String, _ROW: pl.UInt32}, orient="row")
        count = candidates[_ROW].n_unique()
        if count and (best is None or count > best[0]):
            best = count, column, candidates
    if best is None:
        what = f"no value of the table's column {key!r} is a {' or '.join(KEYS if on is None else (on,))} of the corpus"
        fix = f"columns: {', '.join(table.columns)}"
        raise DataError(what, fix=fix)
    return best[1:]


def _hashes(texts: list[str | None], column: str, salt: bytes, known: set[str]) -> list[tuple[str, int]]:
    """Return hash and row of every form of a key that the index has."""
    pairs = []
    for row, text in enumerate(texts):
        forms = dict.fromkeys(_forms(text.strip(), column)) if text else ()
        pairs += [(code, row) for form in forms if (code := hashed(salt, form)) in known]
    return [(code, row) for code, row in pairs if code is not None]


def _forms(text: str, column: str) -> Iterator[str]:
    """Yield how the index may know a key."""
    yield text
    path = PurePosixPath(text.replace("\\", "/"))
    if column == "patient":
        yield text.removeprefix("sub-")
    elif column == "file":
        yield path.name
        yield stem(path.name)
    elif column == "relative":
        for start in range(len(path.parts)):
            yield "/".join(path.parts[start:])


def _refuse_contradictions(found: pl.DataFrame, by: list[str], names: list[str], key: str) -> None:
    several = found.filter(pl.len().over(by) > 1)
    counts = several.group_by(by, maintain_order=True).agg(pl.col(names).drop_nulls().n_unique(), pl.col(_ROW).head(2))
    wrong = counts.filter(pl.any_horizontal(pl.col(names) > 1))
    if wrong.is_empty():
        return
    first = wrong.row(0, named=True)
    columns = ", ".join(name for name in names if first[name] > 1)
    rows = " and ".join(str(row + 1) for row in first[_ROW])
    what = f"{wrong.height} values of the table's column {key!r} have rows that differ in {columns}, such as {rows}"
    raise DataError(what, fix="name a key that tells them apart, or leave these columns out")
