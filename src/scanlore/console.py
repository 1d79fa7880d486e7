"""How the command line prints: tables, JSON, settings, and what was skipped."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, is_dataclass
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from scanlore.verbs.metric_rows import MetricRow


def metric(row: MetricRow) -> dict[str, Any]:
    """Return a metric as a row of a table."""
    name = row.metric if row.class_name is None else f"{row.metric} ({row.class_name})"
    interval = "-" if row.low is None or row.high is None else f"{row.low:.3f} to {row.high:.3f}"
    unit = "" if row.unit == "fraction" else f" {row.unit}"
    value = row.reason if row.value is None else f"{row.value:.3f}{unit}"
    return {"metric": name, "value": value, "95 % interval": interval, "cases": row.n}


def by(values: Sequence[float] | None) -> str:
    """Return numbers as `3 x 4 x 5`; a dash where there are none."""
    return " x ".join(f"{value:.4g}" for value in values) if values else "-"


def print_rows(rows: list[dict[str, Any]], as_json: bool) -> None:
    """Print rows as a table or as JSON."""
    print_json(rows) if as_json else print_table(rows)


def print_settings(data: dict[str, Any], as_json: bool) -> None:
    """Print settings as YAML or as JSON."""
    if as_json:
        print_json(data)
        return
    import yaml

    typer.echo(yaml.safe_dump(data, sort_keys=False).rstrip())


def print_json(value: Any) -> None:
    """Print a value or a result object as JSON."""
    plain = asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
    typer.echo(json.dumps(_finite(plain), indent=2, default=str))


def _finite(value: Any) -> Any:
    """Return a value with null in place of NaN and infinities, which JSON does not know."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def print_table(rows: Sequence[dict[str, Any]]) -> None:
    """Print rows as a table; nothing where there are none."""
    if not rows:
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in rows[0]:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(cell(value) for value in row.values()))
    console = Console()
    # A pipe has no width; wrapping there would break lines that people grep
    (console if console.is_terminal else Console(width=200)).print(table)


def cell(value: Any) -> str:
    """Return a value as a cell of a table."""
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def print_problems(problems: Sequence[tuple[str, str]], shown: int = 10) -> None:
    """Print what was skipped and why, to the error stream; the first ones alone."""
    for name, reason in problems[:shown]:
        typer.echo(f"skipped {name}: {reason}", err=True)
    if len(problems) > shown:
        typer.echo(f"... and {len(problems) - shown} more", err=True)
