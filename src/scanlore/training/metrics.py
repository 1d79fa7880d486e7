"""Metrics of a run: what was computed in one file, how fast in another, so that equal runs have equal metrics."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from scanlore.run import write_atomically

Row = dict[str, Any]


class MetricsWriter:
    """Appends rows to `metrics.jsonl` (values) and `timings.jsonl` (seconds), and to TensorBoard where it is installed.

    Args:
        out: The run folder.
        start: Step from which the run goes on; later rows of an interrupted run are cut off. -1 cuts all off.
    """

    def __init__(self, out: Path, start: int) -> None:
        self.files = {}
        for name in ("metrics", "timings"):
            path = out / f"{name}.jsonl"
            _cut(path, start)
            self.files[name] = path.open("a", encoding="utf-8")
        self.board = _tensorboard(out, start)

    def write(self, values: Row, timings: Row | None = None) -> None:
        """Write the rows of one step; both hold `step`. What was only looked at has no timings."""
        for name, row in (("metrics", values), ("timings", timings)):
            if row is not None:
                self.files[name].write(json.dumps(row) + "\n")
                self.files[name].flush()
        if self.board is not None:
            for key, value in (values | (timings or {})).items():
                if key != "step":
                    self.board.add_scalar(key, value, values["step"])

    def add_picture(self, name: str, path: Path, step: int) -> None:
        """Show a picture on TensorBoard, where both are there."""
        if self.board is not None and path.is_file():
            self.board.add_image(name, np.asarray(Image.open(path).convert("RGB")), step, dataformats="HWC")

    def close(self) -> None:
        """Close all files."""
        for file in self.files.values():
            file.flush()
            os.fsync(file.fileno())
            file.close()
        if self.board is not None:
            self.board.close()


def read_rows(path: Path) -> list[Row]:
    """Return the whole rows of a JSON-lines file; a last line cut short by a kill is left out."""
    if not path.exists():
        return []
    rows = []
    for text in path.read_text(encoding="utf-8").splitlines():
        with contextlib.suppress(ValueError):
            rows.append(json.loads(text))
    return rows


def _cut(path: Path, start: int) -> None:
    kept = [row for row in read_rows(path) if row["step"] <= start]
    write_atomically(path, "".join(json.dumps(row) + "\n" for row in kept))


def _tensorboard(out: Path, start: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(out / "tensorboard"), purge_step=start + 1)
