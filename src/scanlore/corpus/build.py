"""Building a corpus: many processes prepare scans, one writer records them in order.

The journal names every finished source with the end of its voxels in the shards. Whenever the process ends, the next
one cuts the shards back to the journal's last whole line and goes on from there. Sources are recorded in the order in
which they were found, so that a corpus does not depend on the number of workers.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import multiprocessing
import os
import re
import secrets
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scanlore.config import differences
from scanlore.corpus.index import FORMAT_VERSION, check_shards, read_index, read_manifest, write_index
from scanlore.corpus.prepare import Prepared, Row, prepare, source_name, source_row
from scanlore.corpus.reasons import count_rules
from scanlore.corpus.settings import CorpusSettings
from scanlore.corpus.store import ShardWriter, shard_path
from scanlore.errors import ConfigError, DataError
from scanlore.run import check_place, disk_full, is_disk_full, make_folder, write_atomically
from scanlore.scans.find import Source

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class BuildResult:
    """What a build did.

    Attributes:
        out: The corpus folder.
        counts: Rows by status over the whole corpus: kept, dropped, failed.
        num_new: Sources read by this call.
        failed: Name and reason of every source that could not be read.
        num_gone: Sources with kept rows that are no longer where they were.
        skipped: Name and reason of the files that were no sources, as far as the caller knows them.
    """

    out: Path
    counts: dict[str, int]
    num_new: int
    failed: list[tuple[str, str]]
    num_gone: int = 0
    skipped: tuple[tuple[str, str], ...] = ()


def build(
    sources: list[Source],
    out: Path,
    settings: CorpusSettings,
    num_workers: int,
    progress: Progress = lambda done, total: None,
) -> BuildResult:
    """Add sources to the corpus at `out`, which is made when it does not exist; resumes where an earlier call stopped.

    Args:
        sources: From `scanlore.scans.find.find_sources`.
        out: The corpus folder.
        settings: Must equal those the corpus was begun with.
        num_workers: Processes that read; 1 reads in this one.
        progress: Called with the number of sources done and in all.

    Raises:
        ConfigError: `out` is something else, has other settings, or is being built by another process.
        DataError: The disk is full, a worker died, the store is damaged, or not one scan is fit to be kept.
    """
    check_out(out, settings)
    make_folder(out)
    with _lock(out):
        journal = _Journal(out, settings)
        todo = journal.todo(sources)
        if todo or journal.interrupted:
            _run(todo, journal, settings, num_workers, progress)
        return _summary(out, journal.all_rows(), len(todo))


def check_out(out: Path, settings: CorpusSettings) -> None:
    """Refuse an `out` that is no corpus or one of other settings.

    Raises:
        ConfigError: With the differing keys.
    """
    check_place(out)
    if not out.exists() or (out.is_dir() and all(map(_is_leftover, out.iterdir()))):
        return
    if not (out / "corpus.json").is_file():
        raise ConfigError("exists and is no corpus", where=out, fix="choose another --out")
    changed = differences(read_manifest(out)["settings"], settings.model_dump(mode="json"))
    if changed:
        fix = "choose another --out, or repeat the settings"
        raise ConfigError(f"was built with other settings: {'; '.join(changed)}", where=out, fix=fix)


def _is_leftover(path: Path) -> bool:
    """Whether a call that was killed before it wrote the manifest may have left this."""
    return path.name.startswith(".") or path.name == "salt"


@contextlib.contextmanager
def _lock(out: Path) -> Iterator[None]:
    with (out / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigError("is being built by another process", where=out, fix="wait for it to end") from None
        yield


class _Journal:
    """The record of a build under way, and the rows finished before it.

    Each line holds the rows of one source and where the shards end behind it; the first line of every call holds no
    rows, only where the shards ended before.
    """

    def __init__(self, out: Path, settings: CorpusSettings) -> None:
        self.out, self.path = out, out / "journal.jsonl"
        self.salt = _begin(out, settings)
        self.rows: dict[str, list[Row]] = {}
        for row in _read_rows(out):
            self.rows.setdefault(row["source"], []).append(row)
        self.end = _end_of(self.rows, out)
        self.interrupted = self.path.exists()
        for line in self._whole_lines():
            self._take(line)

    def _take(self, line: dict[str, Any]) -> None:
        self.end = (line["shard"], line["end"])
        if line["rows"]:
            self.rows[line["rows"][0]["source"]] = line["rows"]

    def _whole_lines(self) -> Iterator[dict[str, Any]]:
        """Yield the lines whose voxels are all there, and cut off what a kill left behind them."""
        if not self.path.exists():
            return
        good = 0
        for text in self.path.read_bytes().splitlines(keepends=True):
            line = _parse(text)
            if line is None or _shard_size(self.out, line["shard"]) < line["end"]:
                break
            good += len(text)
            yield line
        os.truncate(self.path, good)

    def append(self, rows: list[Row], writer: ShardWriter) -> None:
        """Record the rows of one source."""
        line = {"rows": rows, "shard": writer.shard, "end": writer.end}
        self._take(line)
        with self.path.open("ab") as file:
            file.write(json.dumps(line).encode() + b"\n")

    def todo(self, sources: list[Source]) -> list[Source]:
        """Return the sources that are new or have changed, and the dropped duplicates whose twin has gone."""
        known = {_state(rows[0]) for rows in self.rows.values()}
        again = {source_name(source) for source in sources if _state(source_row(source)) not in known}
        ids = self.kept_ids(again)
        again |= {row["source"] for row in self.all_rows() if _is_duplicate(row) and row["id"] not in ids}
        return [source for source in sources if source_name(source) in again]

    def kept_ids(self, leave_out: set[str]) -> dict[str, str]:
        """Return content id and source of the kept rows but those of the sources `leave_out`."""
        rows = (row for row in self.all_rows() if row["status"] == "kept" and row["source"] not in leave_out)
        return {row["id"]: row["source"] for row in rows}

    def all_rows(self) -> list[Row]:
        """Return the rows of every source, in the order in which they were recorded."""
        return [row for rows in self.rows.values() for row in rows]


def _begin(out: Path, settings: CorpusSettings) -> bytes:
    if not (out / "corpus.json").is_file():
        write_atomically(out / "salt", secrets.token_hex(16))
        (out / "salt").chmod(0o600)
        facts = {"format_version": FORMAT_VERSION, "settings": settings.model_dump(mode="json")}
        write_atomically(out / "corpus.json", json.dumps(facts, indent=2) + "\n")
    return bytes.fromhex((out / "salt").read_text())


def _parse(text: bytes) -> dict[str, Any] | None:
    if not text.endswith(b"\n"):
        return None
    with contextlib.suppress(ValueError):
        line: dict[str, Any] = json.loads(text)
        return line
    return None


def _is_duplicate(row: Row) -> bool:
    return row["status"] == "dropped" and str(row["reason"]).startswith("duplicate of ")


def _state(row: Row) -> tuple[str, int, int]:
    return row["source"], row["bytes"], row["mtime_ns"]


def _shard_size(out: Path, shard: int) -> int:
    path = shard_path(out, shard)
    return path.stat().st_size if path.exists() else 0


def _read_rows(out: Path) -> list[Row]:
    if not (out / "index.parquet").is_file():
        return []
    index = read_index(out)
    check_shards(out, index)
    return index.to_dicts()


def _end_of(rows: dict[str, list[Row]], out: Path) -> tuple[int, int]:
    """Shards behind a finished index end where their files end."""
    last = max((row["shard"] for some in rows.values() for row in some if row["shard"] is not None), default=0)
    return last, _shard_size(out, last) if rows else 0


def _run(todo: list[Source], journal: _Journal, settings: CorpusSettings, num_workers: int, progress: Progress) -> None:
    ids = journal.kept_ids({source_name(source) for source in todo})
    with _clear_when_full(journal.out):
        writer = ShardWriter(journal.out, *journal.end)
        journal.append([], writer)
        for done, prepared in enumerate(_prepared(todo, settings, journal.salt, num_workers), start=1):
            journal.append(_record(prepared, writer, ids, settings), writer)
            progress(done, len(todo))
        writer.close()
        write_index(journal.out, journal.all_rows())
        journal.path.unlink(missing_ok=True)


@contextlib.contextmanager
def _clear_when_full(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if not is_disk_full(error):
            raise
        raise disk_full(out) from None


def _record(prepared: Prepared, writer: ShardWriter, ids: dict[str, str], settings: CorpusSettings) -> list[Row]:
    rows = []
    for row, frames in zip(prepared.rows, prepared.frames, strict=True):
        known = ids.get(row.get("id", ""))
        if row["status"] == "kept" and known is not None and settings.curation.drop_duplicates:
            row = row | {"status": "dropped", "reason": f"duplicate of {known} (drop_duplicates)"}
        elif row["status"] == "kept":
            offsets = writer.append(frames)
            row = row | {"shard": writer.shard, "level_offsets": offsets}
            ids[row["id"]] = row["source"]
        rows.append(row)
    return rows


def _prepared(todo: list[Source], settings: CorpusSettings, salt: bytes, num_workers: int) -> Iterator[Prepared]:
    """Yield what the workers prepare in the order of `todo`, with few scans in flight."""
    if num_workers <= 1 or len(todo) <= 1:
        yield from (prepare(source, settings.curation, salt) for source in todo)
        return
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(num_workers, mp_context=context) as pool:
        flying: deque[tuple[Source, Future[Prepared]]] = deque()
        waiting = iter(todo)
        try:
            while True:
                for source in waiting:
                    flying.append((source, pool.submit(prepare, source, settings.curation, salt)))
                    if len(flying) > num_workers:
                        break
                if not flying:
                    return
                prepared = flying[0][1].result()
                flying.popleft()
                yield prepared
        except BrokenProcessPool:
            names = ", ".join(source.name for source, _ in flying)
            fix = "run the same command again with fewer --workers; what is finished is kept"
            raise DataError(f"a worker died, most likely for want of memory, near {names}", fix=fix) from None
        finally:
            for _, future in flying:
                future.cancel()


def _summary(out: Path, rows: list[Row], num_new: int) -> BuildResult:
    counts = Counter(row["status"] for row in rows)
    failed = [(row["source"], row["reason"]) for row in rows if row["status"] == "failed"]
    if not counts["kept"]:
        rules = count_rules((row["status"], row["reason"]) for row in rows)
        worst = "; ".join(f"{count} x {rule}" for rule, count in list(rules.items())[:3])
        raise DataError(f"no scan is fit to be kept: {worst}", where=out, fix="see `scanlore corpus show`")
    listed = {status: counts[status] for status in ("kept", "dropped", "failed")}
    kept = {row["source"] for row in rows if row["status"] == "kept"}
    return BuildResult(out, listed, num_new, failed, sum(map(_is_gone, kept)))


def _is_gone(source: str) -> bool:
    # Further series of a folder are named after it, with a number
    return not Path(source).exists() and not Path(re.sub(r"#\d+$", "", source)).exists()
