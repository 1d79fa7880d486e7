"""Splits of a corpus: what belongs together stays together.

A unit is a patient or a site with everything connected to it: rows of one source, of one patient, with equal voxels,
and near-duplicates, as far as the rules looked for them. A corpus without patients is split by scan, and says so.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from scanlore.corpus.draws import draw
from scanlore.corpus.groups import Numbers, groups
from scanlore.corpus.join import join
from scanlore.errors import ConfigError, DataError

By = Literal["patient", "site", "scan"]
How = Literal["random", "systematic"]
FRACTIONS = {"train": 0.8, "val": 0.1, "test": 0.1}
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,30}")
_READ = pl.col("status").ne_missing("failed")
_KEPT = pl.col("status") == "kept"


@dataclass(frozen=True)
class SplitReport:
    """What a split made.

    Attributes:
        num_rows: Kept rows by split.
        num_units: Units with kept rows by split.
        num_unknown: Kept rows whose patient (or site) is unknown, each scan of which was a unit of its own.
        num_unassigned: Kept rows without a split.
        num_divided: Units with kept rows in more than one split; 0 unless the splits were given.
    """

    num_rows: dict[str, int]
    num_units: dict[str, int]
    num_unknown: int
    num_unassigned: int
    num_divided: int


def assign_splits(
    frame: pl.DataFrame,
    by: By = "patient",
    how: How = "random",
    fractions: Mapping[str, float] | None = None,
    seed: int = 0,
) -> tuple[pl.DataFrame, SplitReport]:
    """Assign every readable row to a split; the parts hold the asked shares of the units that have kept rows.

    Args:
        frame: The index, curated.
        by: What stays together. `scan` looks at sources and equal or near-equal voxels, not at patients.
        how: `random`, or `systematic`: units in index order, every n-th into a part as its share demands.
        fractions: Share of each part, 1 together; the first takes what rounding leaves. 80, 10 and 10 % by default.
        seed: Of the random order.

    Raises:
        ConfigError: The fractions are none.
        DataError: There are fewer units than a part needs.
    """
    parts = dict(FRACTIONS if fractions is None else fractions)
    _check_fractions(parts)
    units = _units(frame, by)
    order = _ordered(frame, units, how, seed)
    split_of = np.full(int(units.max(initial=-1)) + 1, None, dtype=object)
    for numbers in order:
        split_of[numbers] = _dealt(len(numbers), parts, how)
    empty = [name for name, share in parts.items() if share and name not in set(split_of[order[0]])]
    if empty:
        fix = "give them larger shares, or split by scan" if by != "scan" else "give them larger shares"
        raise DataError(f"{len(order[0])} units ({by}) are too few: nothing for {', '.join(empty)}", fix=fix)
    is_read = frame.select(_READ).to_series()
    names = pl.Series("split", split_of[units].tolist(), dtype=pl.String)
    assigned = frame.with_columns(pl.when(is_read).then(names).alias("split"))
    return assigned, _report(assigned, units, by)


def official(frame: pl.DataFrame, by: By = "patient") -> tuple[pl.DataFrame, SplitReport]:
    """Keep the splits that a table or a dataset gave, and say what they are worth.

    Raises:
        DataError: No kept row has one.
    """
    report = _report(frame, _units(frame, by), by)
    if not report.num_rows:
        raise DataError("no kept scan has a split of its own", fix="join a table that has one, or assign splits")
    return frame, report


def from_table(
    frame: pl.DataFrame, table: pl.DataFrame, key: str, salt: bytes, *, column: str = "split", by: By = "patient"
) -> tuple[pl.DataFrame, SplitReport]:
    """Take the splits of a table; what belongs to a unit of one split has it, too, and what belongs to none has none.

    Args:
        frame: The index.
        table: From `scanlore.corpus.tables.read_table`.
        key: Its column that names patients, files or series.
        salt: Of the corpus.
        column: Its column of splits.
        by: What the report counts, and what should lie in one split.

    Raises:
        DataError: See `scanlore.corpus.join.join`.
    """
    wanted = {name: table[name] for name in (key, column) if name in table.columns}
    cleared = frame.with_columns(pl.lit(None, pl.String).alias("split"))
    joined = join(cleared, pl.DataFrame(wanted), key, None, salt, columns={"split": column})[0]
    unit = pl.Series("unit", _units(joined, by))
    only = pl.when(pl.col("split").drop_nulls().n_unique() == 1).then(pl.col("split").drop_nulls().first())
    whole = joined.with_columns(unit).with_columns(pl.coalesce("split", only.over("unit")).alias("split"))
    return official(whole.with_columns(pl.when(_READ).then("split").alias("split")).drop("unit"), by)


def _check_fractions(parts: Mapping[str, float]) -> None:
    wrong = [name for name in parts if not _NAME.fullmatch(name)]
    if wrong:
        raise ConfigError(f"{wrong[0]!r} is no name for a split", fix="letters, digits, - and _")
    if any(not share >= 0 for share in parts.values()) or abs(sum(parts.values()) - 1) > 1e-6:
        listed = ", ".join(f"{name} {share:g}" for name, share in parts.items())
        raise ConfigError(f"the shares are {listed}", fix="give shares from 0 to 1 that make 1 together")


def _units(frame: pl.DataFrame, by: By) -> Numbers:
    """Return the unit of each row, numbered in the order of their first rows."""
    columns: dict[By, tuple[str, ...]] = {"scan": (), "patient": ("patient",), "site": ("patient", "site")}
    keys = (_codes(frame[name]) for name in ("source", "id", *columns[by]))
    found = groups(frame.height, keys, _near_duplicates(frame))
    _, firsts, numbers = np.unique(found, return_index=True, return_inverse=True)
    ranks: Numbers = np.argsort(np.argsort(firsts))[numbers]
    return ranks


def _codes(column: pl.Series) -> Numbers:
    codes: Numbers = np.unique(column.hash().to_numpy(), return_inverse=True)[1].astype(np.int64)
    codes[column.is_null().to_numpy()] = -1
    return codes


def _near_duplicates(frame: pl.DataFrame) -> list[tuple[int, int]]:
    """Return the rows that were dropped as near-duplicates with a row of their twin."""
    twin = pl.col("value").str.split(" ").list.first().alias("source")
    places = frame.select("source", pl.int_range(pl.len()).alias("place"))
    dropped = frame.select("rule", twin, pl.int_range(pl.len()).alias("row"))
    dropped = dropped.filter(pl.col("rule") == "near_duplicates")
    joined = dropped.join(places.unique("source"), on="source", maintain_order="left")
    return joined.select("row", "place").rows()


def _ordered(frame: pl.DataFrame, units: Numbers, how: How, seed: int) -> tuple[Numbers, Numbers]:
    """Return the units with kept rows and the others, each in the order in which they are dealt."""
    table = frame.select("source", _KEPT.alias("is_kept"), pl.Series("unit", units))
    found = table.group_by("unit").agg(pl.col("source").min(), pl.col("is_kept").any()).sort("unit")
    if how == "random":
        found = found.sort(pl.Series([draw(seed, source) for source in found["source"]], dtype=pl.Float64))
    is_kept = found["is_kept"].to_numpy()
    numbers = found["unit"].to_numpy()
    return numbers[is_kept], numbers[~is_kept]


def _dealt(count: int, parts: Mapping[str, float], how: How) -> npt.NDArray[np.object_]:
    """Return the part of each of `count` units in a row."""
    names = list(parts)
    dealt: npt.NDArray[np.object_] = np.full(count, names[0], dtype=object)
    rest, left = np.arange(count), 1.0
    for name in reversed(names[1:]):
        share = parts[name] / left if left > 0 else 0.0
        is_taken = _every_nth(len(rest), share) if how == "systematic" else _last(len(rest), share)
        dealt[rest[is_taken]] = name
        rest, left = rest[~is_taken], left - parts[name]
    return dealt


def _every_nth(count: int, share: float) -> npt.NDArray[np.bool_]:
    steps = np.floor(np.arange(count + 1) * share + 1e-9)
    is_taken: npt.NDArray[np.bool_] = np.diff(steps) > 0
    return is_taken


def _last(count: int, share: float) -> npt.NDArray[np.bool_]:
    return np.arange(count) >= count - round(count * share)


def _report(frame: pl.DataFrame, units: Numbers, by: By) -> SplitReport:
    known = [] if by == "scan" else [by]
    rows = frame.select("status", "split", *known, pl.Series("unit", units))
    kept = rows.filter(_KEPT)
    assigned = kept.filter(pl.col("split").is_not_null())
    counts = assigned.group_by("split", maintain_order=True).agg(pl.len(), pl.col("unit").n_unique()).rows()
    # A unit is divided by a part of a copy, too, that is not kept itself
    of_kept = rows.filter(pl.col("split").is_not_null() & pl.col("unit").is_in(kept["unit"].unique().implode()))
    spread = of_kept.group_by("unit").agg(pl.col("split").n_unique())
    return SplitReport(
        num_rows={name: rows for name, rows, _ in counts},
        num_units={name: num_units for name, _, num_units in counts},
        num_unknown=0 if by == "scan" else kept[by].null_count(),
        num_unassigned=kept.height - assigned.height,
        num_divided=spread.filter(pl.col("split") > 1).height,
    )
