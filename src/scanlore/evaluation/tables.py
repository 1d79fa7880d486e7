"""The three tables that hold every result: `trials`, `predictions` and `results`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from scanlore.errors import DataError

Row = Mapping[str, Any]
Columns = dict[str, pl.DataType | type[pl.DataType]]

TRIALS: Columns = {
    "trial": pl.String,
    "model": pl.String,
    "weights": pl.String,
    "task": pl.String,
    "task_fingerprint": pl.String,
    "protocol": pl.String,
    "seed": pl.Int64,
    "classes": pl.List(pl.String),
    "num_train": pl.Int64,
    "num_val": pl.Int64,
    "num_test": pl.Int64,
    "patients": pl.String,
    "num_configs": pl.Int64,
    "selection": pl.String,
    "chosen": pl.String,
    "num_parameters": pl.Int64,
    "input_size": pl.Int64,
    "wall_seconds": pl.Float64,
    "source": pl.String,
    "seen": pl.String,
}
PREDICTIONS: Columns = {
    "trial": pl.String,
    "case": pl.String,
    "patient": pl.String,
    "split": pl.String,
    "target": pl.Int64,
    "target_class": pl.String,
    "predicted": pl.String,
    "classes": pl.List(pl.String),
    "probabilities": pl.List(pl.Float64),
    "mask": pl.String,
}
RESULTS: Columns = {
    "trial": pl.String,
    "case": pl.String,
    "patient": pl.String,
    "class_or_region": pl.String,
    "metric": pl.String,
    "unit": pl.String,
    "version": pl.Int64,
    "value": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "n": pl.Int64,
    "reason": pl.String,
}
SCHEMAS = {"trials": TRIALS, "predictions": PREDICTIONS, "results": RESULTS}


def write_tables(out: Path, trials: Sequence[Row], predictions: Sequence[Row], results: Sequence[Row]) -> None:
    """Write `trials.parquet`, `predictions.parquet` and `results.parquet`, each whole or not at all.

    Args:
        out: An existing folder.
        trials: One row per fit: its settings, sizes and cost.
        predictions: One row per trial and case: `probabilities` in the order of `classes`; they and `predicted`, the
            most probable class, null for a case that could not be read; `target`, the index of `target_class` among
            `classes`, null for a case without label; `mask` null but for segmentation.
        results: One row per trial and metric: `case` null for the whole test set, `reason` where `value` is null.
    """
    for name, rows in {"trials": trials, "predictions": predictions, "results": results}.items():
        frame = pl.DataFrame([dict(row) for row in rows], schema=SCHEMAS[name], strict=True)
        temporary = out / f".{name}.{os.getpid()}.tmp"
        frame.write_parquet(temporary)
        temporary.replace(out / f"{name}.parquet")


def read_table(out: Path, name: str) -> pl.DataFrame:
    """Read one of the three tables of a run.

    Args:
        out: The run folder.
        name: `trials`, `predictions` or `results`.

    Raises:
        DataError: It is missing, or is no such table.
    """
    path = out / f"{name}.parquet"
    if not path.is_file():
        raise DataError(f"holds no table {name!r}", where=out, fix="run `scanlore adapt` again")
    frame = pl.read_parquet(path)
    if frame.schema != pl.Schema(SCHEMAS[name]):
        raise DataError(f"is no table of {name} as this version writes it", where=path)
    return frame
