"""`scanlore corpus split`: parts of a corpus that share no patient."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from scanlore.errors import ConfigError, nearest

if TYPE_CHECKING:
    import polars as pl

    from scanlore.corpus.splits import SplitReport

HOW = ("random", "systematic", "official", "table")


def split_corpus(
    corpus: str | Path,
    by: str = "patient",
    how: str = "random",
    fractions: Mapping[str, float] | None = None,
    seed: int = 0,
    table: str | Path | None = None,
    key: str | None = None,
    column: str = "split",
    salt: str | Path | None = None,
) -> SplitReport:
    """Give every scan of a corpus the name of a part; `data.split` of a recipe chooses one.

    Args:
        corpus: Folder made by `build_corpus`.
        by: What stays together: `patient`, `site` or `scan`; copies always do.
        how: `random`; `systematic`, every n-th unit; `official`, what was joined before; `table`.
        fractions: Share of each part, 1 together; train 0.8, val 0.1 and test 0.1 by default.
        seed: Of the random order.
        table: File with a part for each patient, series or file; implies `how="table"`.
        key: Column of the table that names them.
        column: Column of the table that names the parts.
        salt: File with the secret of the project, for a table; by default `scanlore.salt` beside the corpus.

    Raises:
        ConfigError: An argument is wrong.
        DataError: It is no corpus, or there are too few units for a part.
    """
    from scanlore.corpus.flags import set_flags
    from scanlore.corpus.splits import By, assign_splits, from_table, official

    _check("--by", by, get_args(By))
    _check("--how", how, HOW)
    place = Path(corpus)
    reports: list[SplitReport] = []

    def change(frame: pl.DataFrame) -> pl.DataFrame:
        if table is not None:
            from scanlore.corpus.place import corpus_salt
            from scanlore.corpus.tables import read_table
            from scanlore.verbs.corpus_change import about, key_of

            secret = corpus_salt(place, None if salt is None else Path(salt))
            chosen = key_of(Path(table), key)
            rows = read_table(Path(table))
            with about(Path(table)):
                changed, report = from_table(frame, rows, chosen, secret, column=column, by=by)  # type: ignore[arg-type]
        elif how == "official":
            changed, report = official(frame, by)  # type: ignore[arg-type]
        else:
            changed, report = assign_splits(frame, by, how, fractions, seed)  # type: ignore[arg-type]
        reports.append(report)
        return changed

    if how == "table" and table is None:
        raise ConfigError("needs a table", where="--how table", fix="give --table FILE --key COLUMN")
    set_flags(place, change)
    return reports[0]


def parse_fractions(text: str | None) -> dict[str, float] | None:
    """Read `train=0.8,test=0.2`.

    Raises:
        ConfigError: It is not written so.
    """
    if text is None:
        return None
    parts: dict[str, float] = {}
    for part in text.split(","):
        name, _, share = part.partition("=")
        try:
            parts[name.strip()] = float(share)
        except ValueError:
            fix = "NAME=SHARE,... that make 1 together, such as train=0.8,val=0.1,test=0.1"
            raise ConfigError(f"is no share: {part}", where="--fractions", fix=fix) from None
    return parts


def _check(option: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ConfigError(
            f"unknown: {value}{nearest(value, list(known))}", where=option, fix=f"one of {', '.join(known)}"
        )
