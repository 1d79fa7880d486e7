"""Random numbers that belong to what they are drawn for: the same for any version, machine, and order of rows."""

from __future__ import annotations

import hashlib

import polars as pl


def draw(seed: int, *unit: object) -> float:
    """Return a number from 0 to below 1 for a unit.

    Args:
        seed: Other seeds give other numbers.
        unit: What it is drawn for, such as a dataset and a patient.
    """
    key = "\x1f".join(map(str, (seed, *unit)))
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=6).digest()) / 2**48


def draws(units: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Return a table of units with the column `draw`, the number drawn for each row."""
    return units.with_columns(pl.Series("draw", [draw(seed, *row) for row in units.iter_rows()], dtype=pl.Float64))
