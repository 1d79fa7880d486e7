"""What a run folder tells about its run, read at any time: also while it is written."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scanlore.config import read_yaml
from scanlore.errors import ConfigError
from scanlore.reports.run_rows import Row, rows_with, sampled_rows

LOOKS = ("feature_std", "knn_accuracy")
MAX_SKIPPED = 50
TAIL_BYTES = 20_000


@dataclass(frozen=True)
class RunFacts:
    """What is known of a run.

    Attributes:
        name: Of the run folder.
        record: `run.json`.
        settings: `config.yaml`; nested.
        data: `data.json`.
        rows: Rows of metrics, evenly spaced ones of a long run.
        looks: Rows of metrics with health or kNN.
        skipped: Some of the rows of steps that changed nothing, as their gradients were not finite.
        timings: Rows of timings, evenly spaced ones of a long run.
        pictures: Paths of the pictures to show, by title.
        reason: Why the run failed, where that is known.
    """

    name: str
    record: dict[str, Any]
    settings: dict[str, Any]
    data: dict[str, Any]
    rows: list[Row]
    looks: list[Row]
    skipped: list[Row]
    timings: list[Row]
    pictures: dict[str, Path]
    reason: str

    @property
    def step(self) -> int:
        """Steps done."""
        return int(self.rows[-1]["step"]) if self.rows else 0

    @property
    def num_steps(self) -> int:
        """Steps of the whole run; those done where the settings do not say."""
        return int(self.value("training.steps") or self.step)

    def value(self, key: str) -> Any:
        """Return the setting of a dotted key, `None` where there is none."""
        found: Any = self.settings
        for part in key.split("."):
            found = found.get(part) if isinstance(found, Mapping) else None
        return found


def read_facts(run: Path) -> RunFacts:
    """Read a run folder; what is not there yet is empty.

    Args:
        run: The folder.
    """
    metrics = run / "metrics.jsonl"
    record = _json(run / "run.json")
    return RunFacts(
        name=run.absolute().name,
        record=record,
        settings=_settings(run),
        data=_json(run / "data.json"),
        rows=sampled_rows(metrics),
        looks=rows_with(metrics, LOOKS),
        skipped=rows_with(metrics, ["skipped"], MAX_SKIPPED),
        timings=sampled_rows(run / "timings.jsonl"),
        pictures=_pictures(run / "previews"),
        reason=_reason(run / "run.log") if record.get("status") == "failed" else "",
    )


def flattened(settings: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Return nested settings by their dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        flat |= flattened(value, f"{before}{key}.") if isinstance(value, Mapping) else {f"{before}{key}": value}
    return flat


def _json(path: Path) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError):
        data = json.loads(path.read_text(encoding="utf-8"))
        return data if isinstance(data, dict) else {}
    return {}


def _settings(run: Path) -> dict[str, Any]:
    with contextlib.suppress(ConfigError):
        return read_yaml(run / "config.yaml")
    return {}


def _pictures(folder: Path) -> dict[str, Path]:
    """Return the views of the first batch, and the first and the newest reconstruction."""
    steps = sorted(folder.glob("step_*.png"))
    found = {"Views of the first batch": folder / "first_batch.png"} | {
        f"Rebuilt at step {int(path.stem.removeprefix('step_')):,}": path for path in (steps[:1] + steps[-1:])
    }
    return {title: path for title, path in found.items() if path.is_file()}


def _reason(log: Path) -> str:
    """Return the last line of a log that says why its run failed."""
    with contextlib.suppress(OSError), log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - TAIL_BYTES))
        for line in reversed(file.read().decode("utf-8", "replace").splitlines()):
            before, mark, reason = line.partition(" INFO ended: ")
            if mark and before:
                return reason
    return ""
