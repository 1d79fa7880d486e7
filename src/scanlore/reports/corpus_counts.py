"""Counts over an index for tables and charts; what is unknown is counted as such."""

from __future__ import annotations

from typing import Any

import polars as pl

from scanlore.corpus.reasons import UNKNOWN, rule_of

COUNTED = (
    "source", "status", "rule", "value", "reason", "problems", "channel", "num_channels", "ndim", "scan_shape",
    "spacing", "plane", "highres", "format", "bytes", "modality", "sequence", "body_part", "contrast", "vendor",
    "field_strength", "sex", "age_band", "site", "patient", "dataset", "licence", "split",
)  # fmt: skip
"""What counts and charts need of an index."""
PICTURED = ("role", "shape", "shard", "level_factors", "level_offsets")
"""What thumbnails need besides."""
STATUSES = ("kept", "dropped", "failed")
NOT_MR = "not MR"
IMAGE = "2D image"
_TEXTS = ("status", "dataset", "modality", "body_part", "vendor", "sex", "age_band", "licence", "split", "format")
_NUMBER = r"^(?:[a-z]+ )?(\d+(?:\.\d+)?)(?: [a-zA-Z]+)?$"
_UNIT = r"( [a-zA-Z]+)$"


def described(frame: pl.DataFrame) -> pl.DataFrame:
    """Return an index whose categories are texts that people read, `unknown` where there is none."""
    is_other = (pl.col("modality") != "MR").fill_null(False)
    contrast = pl.when("contrast").then(pl.lit("with contrast")).when(~pl.col("contrast")).then(pl.lit("no contrast"))
    plane = pl.when(pl.col("ndim") == 2).then(pl.lit(IMAGE))
    other = pl.when(is_other).then(pl.lit(NOT_MR))
    found = {
        **{name: pl.col(name) for name in _TEXTS},
        "sequence": pl.coalesce("sequence", other),
        "field_strength": pl.coalesce(pl.format("{} T", pl.col("field_strength").round(1)), other),
        "plane": pl.coalesce("plane", plane),
        "contrast": contrast,
    }
    return frame.with_columns(value.fill_null(UNKNOWN).alias(name) for name, value in found.items())


def tally(frame: pl.DataFrame, *columns: str) -> list[tuple[Any, ...]]:
    """Count the rows of each combination of values.

    Args:
        frame: From `described`.
        columns: One or more.

    Returns:
        The values and the count, most frequent first and equal ones by name.
    """
    counted = frame.group_by(columns).len("rows").sort("rows", *columns, descending=[True, *[False] * len(columns)])
    return counted.rows()


def by_status(frame: pl.DataFrame, column: str) -> list[dict[str, Any]]:
    """Count the rows of each value by status.

    Args:
        frame: From `described`.
        column: Such as `dataset`.

    Returns:
        For each value `{column: value, "kept": ..., "dropped": ..., "failed": ...}`, most frequent first.
    """
    counts = (pl.col("status").eq(status).sum().alias(status) for status in STATUSES)
    counted = frame.group_by(column).agg(pl.len().alias("rows"), *counts)
    return counted.sort("rows", column, descending=[True, False]).drop("rows").to_dicts()


def rules(frame: pl.DataFrame) -> list[dict[str, Any]]:
    """Count what is not kept by rule or kind of failure.

    Args:
        frame: An index.

    Returns:
        Rows of `status`, `rule` (in words, with its limit), `rows`, and `values`, from the least to the greatest where
        they are numbers; the dropped before the failed, most frequent first.
    """
    number = pl.col("value").str.extract(_NUMBER).cast(pl.Float64)
    grouped = lost(frame).with_columns(number.alias("number")).group_by("status", "rule").agg(
        pl.len().alias("rows"),
        pl.col("number").min().alias("least"),
        pl.col("number").max().alias("most"),
        pl.col("value").str.extract(_UNIT).sort_by("number").last().fill_null("").alias("unit"),
        pl.col("number").is_not_null().all().alias("has_numbers"),
    )  # fmt: skip
    ordered = grouped.sort("status", "rows", "rule", descending=[False, True, False])
    return [
        {"status": status, "rule": rule, "rows": rows, "values": _range(least, most) + unit if has_numbers else ""}
        for status, rule, rows, least, most, unit, has_numbers in ordered.iter_rows()
    ]


def lost(frame: pl.DataFrame) -> pl.DataFrame:
    """Return the rows that are not kept: what they are, and their `rule` in words and with its limit."""
    columns = frame.select("source", "channel", "status", "dataset", "format", "value", "reason")
    rows = columns.filter(pl.col("status") != "kept").with_columns(pl.col("reason").fill_null(UNKNOWN))
    words = {reason: rule_of(status, reason) for status, reason in rows.select("status", "reason").unique().iter_rows()}
    return rows.with_columns(pl.col("reason").replace_strict(words, return_dtype=pl.String).alias("rule"))


def _range(least: float, most: float) -> str:
    return " to ".join(dict.fromkeys((f"{least:.6g}", f"{most:.6g}")))


def problems(frame: pl.DataFrame) -> list[tuple[str, int]]:
    """Count the named problems of rows that could be read: what was repaired, or is worth knowing.

    Args:
        frame: An index; a row's problems are parted by semicolons, and begin with a name and a colon.
    """
    named = pl.col("problems").str.split("; ").list.eval(pl.element().str.split(": ").list.first())
    counted = frame.select(named.alias("problem")).explode("problem").drop_nulls().group_by("problem").len("rows")
    return counted.sort("rows", "problem", descending=[True, False]).rows()
