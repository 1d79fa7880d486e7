"""The three tables that hold every result: `trials`, `predictions` and `results`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
    "task_kind": pl.String,
    "labels": pl.String,
    "num_labelled": pl.Int64,
    "fold": pl.Int64,
    "schedule": pl.String,
    "pretrain_seed": pl.Int64,
}
LATER = ("task_kind", "labels", "num_labelled", "fold", "schedule", "pretrain_seed")
"""Columns of `trials` that the tables of older runs lack; read as null."""
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


@dataclass(frozen=True)
class Tables:
    """The three tables of a folder."""

    trials: pl.DataFrame
    predictions: pl.DataFrame
    results: pl.DataFrame


def write_tables(out: Path, trials: Sequence[Row], predictions: Sequence[Row], results: Sequence[Row]) -> None:
    """Write `trials.parquet`, `predictions.parquet` and `results.parquet`, each whole or not at all.

    Args:
        out: An existing folder.
        trials: One row per fit: its settings, sizes and cost. `task_kind` is `classification` or `segmentation`;
            `labels` the label budget as it was asked for, and `num_labelled` the cases it gave.
        predictions: One row per trial and case: `probabilities` in the order of `classes`; they and `predicted`, the
            most probable class, null for a case that could not be read; `target`, the index of `target_class` among
            `classes`, null for a case without label. For segmentation `mask` is the file of the predicted mask,
            relative to `out`, and probabilities, targets and predicted class are null.
        results: One row per trial and metric: `case` null for the whole test set, `reason` where `value` is null.
    """
    for name, rows in {"trials": trials, "predictions": predictions, "results": results}.items():
        write_table(out, name, rows)


def write_table(out: Path, name: str, rows: Sequence[Row]) -> None:
    """Write one of the three tables, whole or not at all.

    Args:
        out: An existing folder.
        name: `trials`, `predictions` or `results`.
        rows: As `write_tables` takes them; columns a row does not name are null.

    Raises:
        KeyError: A row names a column the table does not have.
    """
    unknown = {key for row in rows for key in row} - SCHEMAS[name].keys()
    if unknown:
        raise KeyError(f"the table {name!r} has no column {', '.join(sorted(unknown))}")
    frame = pl.DataFrame([dict(row) for row in rows], schema=SCHEMAS[name], strict=True)
    temporary = out / f".{name}.{os.getpid()}.tmp"
    frame.write_parquet(temporary)
    temporary.replace(out / f"{name}.parquet")


def read_tables(out: Path) -> Tables:
    """Read the three tables of a run.

    Args:
        out: The run folder.

    Raises:
        DataError: One is missing, or is no such table.
    """
    return Tables(**{name: read_table(out, name) for name in SCHEMAS})


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
        what = f"holds no table {name!r}" if out.is_dir() else "no such folder"
        raise DataError(what, where=out, fix="give a folder that `scanlore adapt` or `scanlore evaluate` wrote")
    frame = _read_parquet(path)
    schema = pl.Schema(SCHEMAS[name])
    missing = [column for column in LATER if column in schema and column not in frame.columns]
    frame = frame.with_columns(pl.lit(None, schema[column]).alias(column) for column in missing)
    if dict(frame.schema) != dict(schema):
        raise DataError(f"is no table of {name} as this version writes it", where=path)
    return frame.select(schema.names())


def _read_parquet(path: Path) -> pl.DataFrame:
    try:
        return pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError):
        raise DataError("is no readable Parquet table", where=path) from None
