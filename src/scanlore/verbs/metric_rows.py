"""The metrics of a whole test set, as verbs hand them out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class MetricRow:
    """One metric on the test set.

    Attributes:
        metric: Its name.
        class_name: The class it is of; `None` for all together.
        value: Its value; `None` where undefined.
        low: Lower end of the 95 % interval.
        high: Upper end.
        n: Cases it rests on.
        reason: Why there is no value.
        unit: Its unit.
    """

    metric: str
    class_name: str | None
    value: float | None
    low: float | None
    high: float | None
    n: int
    reason: str | None
    unit: str = "fraction"


def metric_rows(results: pl.DataFrame) -> tuple[MetricRow, ...]:
    """Return the rows of a `results` table that are of the whole set, not of single cases."""
    return tuple(
        MetricRow(
            row["metric"],
            row["class_or_region"],
            row["value"],
            row["low"],
            row["high"],
            row["n"],
            row["reason"],
            row["unit"],
        )
        for row in results.iter_rows(named=True)
        if row["case"] is None
    )
