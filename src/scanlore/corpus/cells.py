"""The cells of a CSV, TSV or Parquet table, as text: an id `007` stays one."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from scanlore.errors import DataError

SEPARATORS = {".csv": ",", ".tsv": "\t"}
TABLES = (*SEPARATORS, ".parquet")
Cells = dict[str, list[str | None]]


def read_cells(path: Path) -> Cells:
    """Read a table; CSV and TSV may be separated by commas, semicolons or tabs, whichever the header has most of.

    Args:
        path: `*.csv`, `*.tsv` or `*.parquet`; text in UTF-8, or in UTF-16 with a byte order mark.

    Returns:
        The cells of each column, without white space around; `None` where empty. Blank lines are no rows.

    Raises:
        DataError: It is damaged, in another encoding, has rows of other lengths than its header, or no rows.
    """
    names, rows = _read_parquet(path) if path.suffix.lower() == ".parquet" else _read_text(path)
    if not rows:
        raise DataError("holds no rows, and so cannot be read as a table of images", where=path)
    columns = zip(*rows, strict=True)
    return {name.strip(): [_cell(value) for value in column] for name, column in zip(names, columns, strict=True)}


def column_names(path: Path) -> list[str]:
    """Return the names in the header of a table; none where it cannot be read."""
    try:
        if path.suffix.lower() == ".parquet":
            import polars as pl

            return list(pl.read_parquet_schema(path))
        with path.open(encoding="utf-8-sig") as file:
            header = next((line for line in file if line.strip()), "")
        return [name.strip() for name in next(csv.reader([header], delimiter=_separator(header, path)), [])]
    except Exception:  # whoever reads the table says what is wrong with it
        return []


def _cell(value: str | None) -> str | None:
    return (value or "").strip() or None


def _read_parquet(path: Path) -> tuple[list[str], list[tuple[str | None, ...]]]:
    import polars as pl

    try:
        frame = pl.read_parquet(path)
        frame = frame.select(name for name, kind in frame.schema.items() if not kind.is_nested()).cast(pl.String)
    except (OSError, pl.exceptions.PolarsError) as error:
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        raise DataError(f"cannot be read as a table: {reason}", where=path) from None
    return frame.columns, frame.rows()


def _read_text(path: Path) -> tuple[list[str], list[list[str]]]:
    try:
        text = _decoded(path.read_bytes())
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=_separator(text, path))
        lines = [line for line in reader if any(cell.strip() for cell in line)]
    except UnicodeDecodeError:
        raise DataError("is not UTF-8", where=path, fix="save it as UTF-8") from None
    except (OSError, csv.Error) as error:
        raise DataError(f"cannot be read as a table: {error}", where=path) from None
    header, rows = (lines[0], lines[1:]) if lines else ([], [])
    for number, row in enumerate(rows, start=1):
        if len(row) != len(header):
            fix = f"the header has {len(header)}; put a cell that holds the separator into quotes"
            raise DataError(f"row {number} has {len(row)} cells", where=path, fix=fix)
    return header, rows


def _decoded(data: bytes) -> str:
    return data.decode("utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig")


def _separator(text: str, path: Path) -> str:
    header = next((line for line in text.splitlines() if line.strip()), "")
    usual = SEPARATORS[path.suffix.lower()]
    return max((usual, ",", ";", "\t"), key=header.count)
