"""Which scans a model was pretrained on, so that a test scan among them does not pass unnoticed; torch-free."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from scanlore.corpus.fingerprint import truncated
from scanlore.corpus.index import StoredScans, read_index
from scanlore.run import write_atomically

FILE = "scans.txt"
LENGTH = 16
"""Hexadecimal digits of a content id that are kept: enough to recognise a scan, and nothing of what it shows."""

UNKNOWN = "# unknown"
"""First word of a line that says that more was seen than is listed."""

Seen = Literal["none", "scan", "unknown"]


def write_seen(folder: Path, scans: StoredScans, start: str | Path | None = None) -> None:
    """Write `scans.txt`: truncated content id and truncated fingerprint of the scans of a run, one scan a line, sorted.

    The fingerprint tells of converted copies, which have another id; it is missing where the corpus has none.

    Args:
        folder: Of the run or the model.
        scans: Of the run.
        start: Reference of the model the run continues, whose scans count too.
    """
    index = read_index(scans.root, ["id", "fingerprint"]).drop_nulls()
    prints = dict(index.iter_rows())
    lines = {
        f"{name[:LENGTH]} {truncated(prints[name]) if name in prints else ''}".strip() for name in scans.content_ids
    }
    if start is not None:
        before = _lines(start)
        lines |= {f"{UNKNOWN}: continues a model that does not say"} if before is None else before
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / FILE, "".join(f"{line}\n" for line in sorted(lines)))


def _lines(reference: str | Path) -> set[str] | None:
    """Return the lines of a model's list; no lines for an untrained model, `None` where it has no list."""
    text = str(reference)
    if text.partition(":")[0] in ("random", "pixels") and not Path(text).exists():
        return set()
    path = Path(text)
    run = path if path.exists() or "@" not in text else Path(text.rpartition("@")[0])
    known = next((place for place in (run / "model" / FILE, run / FILE) if place.is_file()), None)
    return None if known is None else set(known.read_text(encoding="utf-8").splitlines())


def seen_status(reference: str | Path, ids: Iterable[str]) -> Seen:
    """Say whether a model was pretrained on any of these scans.

    Args:
        reference: A model reference.
        ids: Content ids of the scans.

    Returns:
        `none`, `scan`, or `unknown` where the model does not say what it was pretrained on.
    """
    lines = _lines(reference)
    if lines is None:
        return "unknown"
    seen = {line[:LENGTH] for line in lines if not line.startswith(UNKNOWN)}  # older files hold ids alone
    if any(name[:LENGTH] in seen for name in ids):
        return "scan"
    return "unknown" if any(line.startswith(UNKNOWN) for line in lines) else "none"
