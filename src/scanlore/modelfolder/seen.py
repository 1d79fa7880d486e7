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

Seen = Literal["none", "scan", "unknown"]


def write_seen(folder: Path, scans: StoredScans) -> None:
    """Write `scans.txt`: truncated content id and truncated fingerprint of the scans of a run, one scan a line, sorted.

    The fingerprint tells of converted copies, which have another id; it is missing where the corpus has none.
    """
    index = read_index(scans.root, ["id", "fingerprint"]).drop_nulls()
    prints = dict(index.iter_rows())
    lines = {
        f"{name[:LENGTH]} {truncated(prints[name]) if name in prints else ''}".strip() for name in scans.content_ids
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / FILE, "".join(f"{line}\n" for line in sorted(lines)))


def seen_status(reference: str | Path, ids: Iterable[str]) -> Seen:
    """Say whether a model was pretrained on any of these scans.

    Args:
        reference: A model reference.
        ids: Content ids of the scans.

    Returns:
        `none`, `scan`, or `unknown` where the model does not say what it was pretrained on.
    """
    text = str(reference)
    if text.partition(":")[0] in ("random", "pixels") and not Path(text).exists():
        return "none"
    path = Path(text)
    run = path if path.exists() else Path(text.rpartition("@")[0])
    known = next((place for place in (run / "model" / FILE, run / FILE) if place.is_file()), None)
    if known is None:
        return "unknown"
    seen = {line[:LENGTH] for line in known.read_text(encoding="utf-8").splitlines()}  # older files hold ids alone
    return "scan" if any(name[:LENGTH] in seen for name in ids) else "none"
