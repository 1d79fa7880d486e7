"""Rules applied to an index: every row that could be read is kept, or dropped with the rule and its value.

Flags depend on the index and the rules alone, never on earlier flags, and no voxel is read.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator

import polars as pl

from scanlore.corpus.draws import draws
from scanlore.corpus.groups import groups
from scanlore.corpus.index import completed
from scanlore.corpus.settings import EVERY_DATASET, Allowed, Curation

KB = 1000
Step = Callable[[pl.DataFrame], pl.DataFrame]
KEPT = pl.col("status") == "kept"
_PLACE = "place in the index"


def curate(frame: pl.DataFrame, rules: Curation) -> pl.DataFrame:
    """Set `status`, `rule`, `value`, `reason` and `highres` of every row that did not fail.

    Rules apply one after the other, in the order of the functions below; a row is dropped by the first that hits it.
    What a rule needs and a row does not know (null) passes, so that rows of which only the header was read can be
    curated, too; in an allow list the unknown passes only where the list holds null.

    Args:
        frame: The index; missing columns are unknown.
        rules: Which scans are kept.

    Returns:
        The index with all its columns, in the same order.
    """
    flagged = _unflagged(completed(frame), rules)
    for rule, limit, value in _row_rules(rules):
        flagged = _drop(flagged, rule, value, limit)
    for step in _table_rules(rules):
        flagged = step(flagged)
    return flagged


def _unflagged(frame: pl.DataFrame, rules: Curation) -> pl.DataFrame:
    is_read = pl.col("status").ne_missing("failed")
    highres = (pl.col("ndim") == 3) & (pl.col("scan_shape").list.min() > rules.highres_above)
    return frame.with_columns(
        pl.when(is_read).then(pl.lit("kept")).otherwise("status").alias("status"),
        *(pl.when(~is_read).then(name).alias(name) for name in ("rule", "value", "reason")),
        pl.when(is_read).then(highres.fill_null(False)).otherwise("highres").alias("highres"),
    )


def _drop(
    frame: pl.DataFrame, rule: str, value: pl.Expr | pl.Series, limit: object = None, words: str = "{}"
) -> pl.DataFrame:
    """Drop the kept rows that have a value.

    Args:
        frame: The index.
        rule: Name of the rule.
        value: Text for every row; null where the rule lets it pass.
        limit: Of the rule, or of each row; `None` for a rule without one.
        words: What the reason says of the value.
    """
    text = value if isinstance(value, pl.Expr) else pl.lit(value)
    bound = pl.lit(limit) if isinstance(limit, pl.Series) else pl.lit(str(limit))
    reason = (
        pl.format(f"{words} ({rule})", text) if limit is None else pl.format(f"{words} ({rule}: {{}})", text, bound)
    )
    hit = KEPT & text.is_not_null()
    flags = {"status": pl.lit("dropped"), "rule": pl.lit(rule), "value": text, "reason": reason}
    return frame.with_columns(pl.when(hit).then(new).otherwise(name).alias(name) for name, new in flags.items())


def _row_rules(rules: Curation) -> Iterator[tuple[str, object, pl.Expr]]:
    """Yield name, limit and value of the rules that look at one row alone."""
    is_volume = pl.col("ndim") == 3
    if rules.drop_labels:
        yield "drop_labels", None, _where(pl.col("role") == "label", pl.lit("label map"))
    if rules.drop_constant:
        yield "drop_constant", None, _where(pl.col("p99_95") <= pl.col("p0_05"), pl.lit("empty or constant"))
    if rules.drop_scouts:
        yield "drop_scouts", None, _where(pl.col("scout"), pl.lit("scout"))
    slices = pl.col("scan_shape").list.min()
    plural = pl.when(slices == 1).then(pl.lit("slice")).otherwise(pl.lit("slices"))
    hit = is_volume & (slices <= rules.slices_above)
    yield "slices_above", rules.slices_above, _where(hit, pl.format("{} {}", slices, plural))
    # To the micrometre: 6.5 mm from an affine in single precision are not over 6.5 mm
    view = pl.min_horizontal(_along(axis, "scan_shape") * _along(axis, "spacing") for axis in range(3)).round(3)
    if (least := rules.min_field_of_view_mm) is not None:
        yield "min_field_of_view_mm", _plain(least), _where(is_volume & (view < least), _measure(view, "mm"))
    spacing = pl.col("spacing").list.max().round(3)
    if (most := rules.max_spacing_mm) is not None:
        yield "max_spacing_mm", _plain(most), _where(is_volume & (spacing > most), _measure(spacing, "mm"))
    size = pl.col("bytes") / KB
    if (least := rules.min_file_kb) is not None:
        yield "min_file_kb", _plain(least), _where(size < least, _measure(size, "kB"))
    for column, allowed in rules.keep.items():
        yield f"keep.{column}", ", ".join(map(_plain, allowed)), _not_allowed(column, allowed)


def _where(hit: pl.Expr, value: pl.Expr) -> pl.Expr:
    return pl.when(hit).then(value)


def _along(axis: int, column: str) -> pl.Expr:
    return pl.col(column).list.get(axis, null_on_oob=True)


def _measure(value: pl.Expr, unit: str) -> pl.Expr:
    return pl.format(f"{{}} {unit}", value)


def _plain(value: object) -> str:
    if value is None or isinstance(value, bool):
        return {None: "unknown", True: "yes", False: "no"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)


def _not_allowed(column: str, allowed: Allowed) -> pl.Expr:
    known = [value for value in allowed if value is not None]
    found = pl.col(column)
    text = found.cast(pl.String)
    if column == "contrast":
        text = text.replace({"true": "yes", "false": "no"})
    passes = found.is_in(known) if column == "field_strength" else text.is_in([_plain(value) for value in known])
    return _where(~passes.fill_null(None in allowed), text.fill_null("unknown"))


def _table_rules(rules: Curation) -> Iterator[Step]:
    """Yield the rules that look at several rows."""
    if rules.drop_duplicates:
        yield _drop_duplicates
    if (most := rules.near_duplicates) is not None:
        yield lambda frame: _drop_near_duplicates(frame, most)
    if rules.fraction:
        yield lambda frame: _keep_fraction(frame, rules)
    if rules.max_patients:
        yield lambda frame: _keep_patients(frame, rules)
    if rules.volumes_per_patient:
        yield lambda frame: _keep_volumes(frame, rules)


def _drop_duplicates(frame: pl.DataFrame) -> pl.DataFrame:
    """Keep the first of the kept rows with equal contents."""
    rows = frame.select("status", "id", "source").with_row_index(_PLACE)
    kept = rows.filter(KEPT & pl.col("id").is_not_null())
    first = [pl.col(name).first().over("id").alias(f"first {name}") for name in (_PLACE, "source")]
    later = kept.select(_PLACE, *first).filter(pl.col(_PLACE) > pl.col(f"first {_PLACE}"))
    twins = _joined(rows.select(_PLACE), later, [_PLACE])["first source"]
    return _drop(frame, "drop_duplicates", twins, words="duplicate of {}")


def _drop_near_duplicates(frame: pl.DataFrame, max_distance: int) -> pl.DataFrame:
    """Keep of each group of near-duplicates the one with most voxels; channels of one source are no duplicates."""
    rows = frame.select("status", "source", "ndim", "scan_shape", "fingerprint").with_row_index(_PLACE)
    known = rows.filter(KEPT & pl.col("fingerprint").is_not_null())
    found = pl.concat(_near_twins(known.filter(pl.col("ndim") == ndim), max_distance) for ndim in (2, 3))
    twins = _joined(rows.select(_PLACE), found, [_PLACE])["twin"]
    return _drop(frame, "near_duplicates", twins, max_distance, "near-duplicate of {}")


def _near_twins(rows: pl.DataFrame, max_distance: int) -> pl.DataFrame:
    """Return the place of every row to drop, and its twin: source and distance."""
    from scanlore.corpus.fingerprint import distance, near_pairs

    prints, sources = rows["fingerprint"].to_list(), rows["source"].to_list()
    near = near_pairs(prints, max_distance) if prints else []
    pairs = [(one, two) for one, two in near if sources[one] != sources[two]]
    voxels = pl.reduce(operator.mul, [_along(axis, "scan_shape").fill_null(1) for axis in range(3)])
    group = pl.Series("group", groups(rows.height, pairs=pairs))
    best = pl.col("row").sort_by("voxels", descending=True, maintain_order=True).first().over("group").alias("best")
    numbered = rows.select(_PLACE, group, voxels.alias("voxels")).with_row_index("row")
    numbers = numbered.select(_PLACE, "row", best).filter(pl.col("row") != pl.col("best"))
    texts = [f"{sources[two]} at {distance(prints[one], prints[two])}" for _, one, two in numbers.iter_rows()]
    return numbers.select(_PLACE, pl.Series("twin", texts, dtype=pl.String))


def _joined(frame: pl.DataFrame, found: pl.DataFrame, keys: list[str]) -> pl.DataFrame:
    return frame.join(found, on=keys, how="left", nulls_equal=True, maintain_order="left")


def _limit(limits: dict[str, float] | dict[str, int]) -> pl.Expr:
    """Return the limit of each row's dataset; null where none holds."""
    others = limits.get(EVERY_DATASET)
    found = pl.col("dataset").fill_null("").replace_strict(limits, default=others, return_dtype=pl.Float64)
    return found.alias("limit")


def _keep_fraction(frame: pl.DataFrame, rules: Curation) -> pl.DataFrame:
    """Keep the units whose draw is below the fraction: the same whatever else the corpus holds."""
    unit = pl.coalesce("patient", "source").alias("unit")
    rows = frame.select("status", "dataset", unit, _limit(rules.fraction))
    keys = ["dataset", "unit"]
    units = rows.filter(KEPT & pl.col("limit").is_not_null()).select(keys).unique()
    drawn = _joined(rows, draws(units, rules.seed), keys)
    value = _where(pl.col("draw") >= pl.col("limit"), pl.format("draw {}", pl.col("draw").round(4)))
    return _drop(frame, "fraction", drawn.select(value).to_series(), rows["limit"].cast(pl.String))


def _keep_patients(frame: pl.DataFrame, rules: Curation) -> pl.DataFrame:
    """Keep the first patients of each dataset in the order of their draws; scans of unknown patients pass."""
    rows = frame.select("status", "dataset", "patient", _limit(rules.max_patients))
    value = _beyond(rows, ["dataset", "patient"], ["dataset"], rules.seed)
    return _drop(frame, "max_patients", "patient " + value, rows["limit"].cast(pl.Int64))


def _keep_volumes(frame: pl.DataFrame, rules: Curation) -> pl.DataFrame:
    """Keep the first rows of each patient in the order of their draws; scans of unknown patients pass."""
    keys = ["dataset", "patient", "source", "channel"]
    rows = frame.select("status", *keys, _limit(rules.volumes_per_patient))
    value = _beyond(rows, keys, ["dataset", "patient"], rules.seed)
    return _drop(frame, "volumes_per_patient", "volume " + value, rows["limit"].cast(pl.Int64))


def _beyond(rows: pl.DataFrame, keys: list[str], within: list[str], seed: int) -> pl.Series:
    """Return the ranks, as text, of the kept units whose rank by their draw is beyond the limit; null for others."""
    counted = rows.filter(KEPT & pl.col("limit").is_not_null() & pl.col("patient").is_not_null())
    units = draws(counted.select(keys).unique(), seed).sort("draw", *keys)
    rank = (pl.int_range(pl.len()) + 1).over(within).alias("rank")
    ranked = _joined(rows, units.with_columns(rank), keys)
    return ranked.select(_where(pl.col("rank") > pl.col("limit"), pl.col("rank").cast(pl.String))).to_series()
