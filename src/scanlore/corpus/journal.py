"""The record of a build under way: what is finished stays finished, whenever the process ends.

Each line of `journal.jsonl` holds the rows of one source and where the shards end behind it; the first line of every
call holds no rows, only where the shards ended before. A call after a kill cuts both back to the last whole line.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scanlore.corpus.index import check_shards, read_index, schema
from scanlore.corpus.prepare import Prepared, Row
from scanlore.corpus.store import ShardWriter, shard_path

if TYPE_CHECKING:
    import polars as pl

State = tuple[int, str]
KNOWN = ("source", "bytes", "modified", "status", "id", "through_axis", "role", "shard", "level_offsets")


@dataclass(frozen=True)
class _Known:
    state: State
    is_failed: bool


class Journal:
    """What a corpus holds already, and a file to add to it.

    Args:
        out: The corpus folder.
        check_store: Refuse a store whose shards are shorter than the index says.

    Attributes:
        end: Number and length of the last shard.
    """

    def __init__(self, out: Path, check_store: bool = True) -> None:
        self.out, self.path = out, out / "journal.jsonl"
        self._known: dict[str, _Known] = {}
        self._stored: dict[tuple[Any, ...], tuple[int, list[int]]] = {}
        # What was mending a damaged store goes on with it
        last = self._take_index(check_store and not self.path.exists())
        self.end = (last, _shard_size(out, last))
        for line in self._whole_lines():
            self._take(line)

    def is_known(self, row: Row, again: bool = False) -> bool:
        """Whether a source has been recorded in its present state.

        Args:
            row: From `source_row`.
            again: Count those that could not be read as unknown.
        """
        known = self._known.get(row["source"])
        if known is None or known.state != (row["bytes"], row["modified"]):
            return False
        return not (again and known.is_failed)

    def forget(self, sources: Iterable[str]) -> None:
        """Take sources for unknown, so that they are read and stored again."""
        for source in sources:
            self._known.pop(source, None)

    def forget_places(self, shards: Iterable[tuple[int, int]]) -> None:
        """Share no more what is stored at these places: shard and offset of the first level."""
        places = set(shards)
        self._stored = {key: place for key, place in self._stored.items() if (place[0], place[1][0]) not in places}

    def start(self) -> ShardWriter:
        """Open the shards behind what is recorded."""
        writer = ShardWriter(self.out, *self.end)
        self._append([], writer)
        return writer

    def record(self, prepared: Prepared, writer: ShardWriter) -> None:
        """Store the voxels of one source and write down its rows; equal contents are stored once."""
        rows = []
        for row, frames in zip(prepared.rows, prepared.frames, strict=True):
            if frames:
                place = self._stored.get(_content(row))
                if place is None:
                    offsets = writer.append(frames)
                    place = (writer.shard, offsets)
                row = row | {"shard": place[0], "level_offsets": place[1]}
            rows.append(row)
        self._append(rows, writer)

    def frame(self) -> pl.DataFrame:
        """Return all rows, those of the index first; a source recorded again has its new rows alone."""
        import polars as pl

        old = read_index(self.out) if _has_index(self.out) else pl.DataFrame(schema=schema())
        new = self._rows()
        # A source may have been recorded twice within one journal, too: the later one counts
        place = new.with_row_index("line").group_by("source").agg(pl.col("entry").max().alias("entry"))
        new = new.join(place, on=["source", "entry"], how="semi", maintain_order="left").drop("entry")
        old = old.join(new, on="source", how="anti", maintain_order="left")
        return pl.concat([old, new.select(old.columns)])

    def close(self) -> None:
        """The rows are in the index now."""
        self.path.unlink(missing_ok=True)

    def _rows(self) -> pl.DataFrame:
        import polars as pl

        struct = pl.Struct(schema())
        if not self.path.exists():
            return pl.DataFrame(schema=schema() | {"entry": pl.UInt32})
        lines = pl.read_ndjson(self.path, schema={"rows": pl.List(struct)}).with_row_index("entry")
        return lines.filter(pl.col("rows").list.len() > 0).explode("rows").unnest("rows")

    def _take_index(self, check_store: bool) -> int:
        if not _has_index(self.out):
            return 0
        index = read_index(self.out, list(KNOWN))
        if check_store:
            check_shards(self.out, index)
        for row in index.iter_rows(named=True):
            self._take_row(row)
        last: int | None = index["shard"].max()  # type: ignore[assignment]
        return last or 0

    def _take_row(self, row: Row) -> None:
        self._known[row["source"]] = _Known((row["bytes"], row["modified"]), row.get("status") == "failed")
        if row.get("shard") is not None:
            self._stored.setdefault(_content(row), (row["shard"], row["level_offsets"]))

    def _take(self, line: dict[str, Any]) -> None:
        self.end = (line["shard"], line["end"])
        for row in line["rows"]:
            self._take_row(row)

    def _whole_lines(self) -> Iterator[dict[str, Any]]:
        """Yield the lines whose voxels are all there, and cut off what a kill left behind them."""
        if not self.path.exists():
            return
        good = 0
        with self.path.open("rb") as file:
            for text in file:
                line = _parse(text)
                if line is None or _shard_size(self.out, line["shard"]) < line["end"]:
                    break
                good += len(text)
                yield line
        os.truncate(self.path, good)

    def _append(self, rows: list[Row], writer: ShardWriter) -> None:
        line = {"rows": rows, "shard": writer.shard, "end": writer.end}
        self._take(line)
        with self.path.open("ab") as file:
            file.write(json.dumps(line).encode() + b"\n")


def _content(row: Row) -> tuple[Any, ...]:
    # The chain of levels depends on the axis across the slices, and labels are stored in another way
    return row["id"], row["through_axis"], row["role"]


def _has_index(out: Path) -> bool:
    return (out / "index.parquet").is_file()


def _parse(text: bytes) -> dict[str, Any] | None:
    if not text.endswith(b"\n"):
        return None
    with contextlib.suppress(ValueError):
        line: dict[str, Any] = json.loads(text)
        return line
    return None


def _shard_size(out: Path, shard: int) -> int:
    path = shard_path(out, shard)
    return path.stat().st_size if path.exists() else 0
