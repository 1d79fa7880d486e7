"""What a conversion writes: a folder that is there whole or not at all, with its tables and where it comes from."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scanlore.errors import DataError

CONVERSION = "conversion.json"
TABLE = "table.csv"
Row = Mapping[str, object]


@dataclass(frozen=True)
class Converted:
    """A dataset as a task.

    Attributes:
        tasks: What `scanlore adapt` takes: the tables, or the folder itself where nothing had to be converted.
        num_cases: Images, or scans.
        notes: What one must know of it.
        already_done: Whether it was converted before.
    """

    tasks: tuple[Path, ...]
    num_cases: int
    notes: tuple[str, ...] = ()
    already_done: bool = False


@contextlib.contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Give a folder to write to, which becomes `out` when all went well.

    Args:
        out: Must not exist, or be empty.

    Raises:
        DataError: It holds files, or the place cannot be written to.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError("holds files already", where=out, fix="name a new folder by --out")
    part = out.with_name(f"{out.name}.part")
    if part.exists() and not (part / CONVERSION).is_file() and any(part.iterdir()):
        raise DataError("is in the way, and not of a conversion", where=part, fix="move it, or choose another --out")
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir(parents=True)
        # Also marks the folder as one that may be removed when the conversion is begun anew
        (part / CONVERSION).write_text("{}", encoding="utf-8")
        yield part
        if out.exists():
            out.rmdir()
        os.replace(part, out)
    except BaseException as error:
        shutil.rmtree(part, ignore_errors=True)
        if isinstance(error, OSError):
            raise DataError(f"cannot be written: {error.strerror or error}", where=out) from error
        raise


def finish(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write what the converted dataset is and where it comes from."""
    (folder / CONVERSION).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def finished(out: Path) -> dict[str, Any]:
    """Return what `finish` wrote; empty where nothing was."""
    try:
        facts = json.loads((out / CONVERSION).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


def write_table(path: Path, rows: Sequence[Row]) -> Path:
    """Write rows as CSV; columns that are empty in every row are left out."""
    names = [name for name in rows[0] if any(row[name] is not None for row in rows)]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(names)
        writer.writerows([["" if row[name] is None else row[name] for name in names] for row in rows])
    return path


def wrong_layout(folder: Path, expected: str, found: str) -> DataError:
    """Return the error for a folder that does not lie as its dataset should."""
    return DataError(f"does not lie as expected: {found}", where=folder, fix=f"expected: {expected}")


def some_of(folder: Path, shown: int = 5) -> str:
    """Return what is at the top of a folder, in words."""
    names = sorted(path.name + ("/" if path.is_dir() else "") for path in folder.iterdir())
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return f"it holds {', '.join(names[:shown])}{more}" if names else "it is empty"
