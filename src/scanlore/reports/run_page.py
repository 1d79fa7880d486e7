"""The live page of a pretraining run: one HTML file that needs no network and reloads itself while the run goes on."""

from __future__ import annotations

import base64
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from scanlore.reports.page import templates
from scanlore.reports.run_charts import Axes, Chart, Curve, chart, curve, is_number, number_text
from scanlore.reports.run_facts import RunFacts, flattened, read_facts
from scanlore.reports.run_rows import Row
from scanlore.run import write_atomically
from scanlore.training.health import SMALLEST_RANK, SMALLEST_STD

RELOAD_SECONDS = 30
NUM_RECENT = 50
"""Timings that speed and time left are told from."""
MAX_WARNINGS = 20
OBSERVED = ("lr", "weight_decay", "teacher_entropy", "feature_std", "effective_rank", "knn_accuracy", "skipped", "step")
NORM = "grad_norm_"


@dataclass(frozen=True)
class Stretch:
    """A run's place on the axis of a page.

    Attributes:
        facts: Of the run.
        first: Steps of the stages before it.
    """

    facts: RunFacts
    first: int


def write_run_page(run: Path, is_running: bool) -> None:
    """Write `report.html` into a run folder; a reader sees the old page or the whole new one.

    The page of a recipe with stages shows them one behind the other and links theirs; it is also written again with
    that of each of its stages. Of a long run evenly spaced rows are read, so that it takes no longer than a short one.

    Args:
        run: The run folder, with whatever is in it already.
        is_running: Whether the page reloads itself.
    """
    facts = read_facts(run)
    stages = list(facts.settings.get("stages") or {})
    _write(run, facts, stages, is_running)
    whole = run.absolute().parent.parent
    if run.absolute().parent.name == "stages" and (whole / "run.json").is_file():
        above = read_facts(whole)
        _write(whole, above, list(above.settings.get("stages") or {}), above.record.get("status") == "running")


def _write(run: Path, facts: RunFacts, stages: Sequence[str], is_running: bool) -> None:
    stretches = _stretches(run, stages) if stages else [Stretch(facts, 0)]
    latest = _latest(stretches)
    is_stage = run.absolute().parent.name == "stages"
    page = templates(png=_data_uri).get_template("run.html.j2").render(
        facts=facts,
        heading=run.absolute().parent.parent.name if is_stage else facts.name,
        stage=facts.name if is_stage else "",
        kind=_kind(latest),
        status=_status(facts, is_running),
        reload=RELOAD_SECONDS if is_running else 0,
        written=time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
        tiles=_tiles(latest, is_running, latest.name if stages else ""),
        share=_share_done(stretches),
        warnings=_warnings(stretches),
        charts=_charts(stretches),
        stages=[_stage_row(stretch.facts) for stretch in stretches] if stages else [],
        pictures={} if stages else facts.pictures,
        settings={} if stages else {key: _setting(value) for key, value in flattened(facts.settings).items()},
        about=_about(facts),
    )  # fmt: skip
    write_atomically(run / "report.html", page)


def _stretches(run: Path, stages: Sequence[str]) -> list[Stretch]:
    stretches, first = [], 0
    for name in stages:
        facts = read_facts(run / "stages" / name)
        stretches.append(Stretch(facts, first))
        first += facts.num_steps
    return stretches


def _latest(stretches: Sequence[Stretch]) -> RunFacts:
    """Return the facts of the last stage that has begun."""
    begun = [stretch.facts for stretch in stretches if stretch.facts.rows]
    return (begun or [stretches[0].facts])[-1]


def _status(facts: RunFacts, is_running: bool) -> str:
    status = str(facts.record.get("status", "not begun"))
    if is_running:
        return "running"
    return "ended" if status == "running" else status


def _kind(facts: RunFacts) -> str:
    """Return in a few words what is trained."""
    parts = [facts.value(key) for key in ("method.name", "backbone.name")]
    batch = facts.value("training.batch_size")
    return ", ".join([str(part) for part in parts if part] + ([f"{batch} scans a step"] if batch else []))


def _share_done(stretches: Sequence[Stretch]) -> float:
    done = sum(stretch.facts.step for stretch in stretches)
    return done / max(1, sum(stretch.facts.num_steps for stretch in stretches))


def _tiles(facts: RunFacts, is_running: bool, stage: str) -> list[tuple[str, str, str]]:
    """Return value, name and remark of the headline numbers."""
    tiles = [(f"{facts.step:,}", "steps", f"of {facts.num_steps:,}" + (f", stage {stage}" if stage else ""))]
    if facts.rows and is_number(facts.rows[-1].get("loss")):
        tiles.append((number_text(facts.rows[-1]["loss"]), "loss", "of the last step"))
    tiles += _knn_tiles(facts) + _health_tiles(facts)
    recent = facts.timings[-NUM_RECENT:]
    if recent:
        speed, waited = (median(row[key] for row in recent) for key in ("scans_per_second", "data_wait"))
        tiles.append((number_text(speed), "scans a second", f"{waited:.0%} of the time waiting for data"))
        left = median(row["seconds"] for row in recent) * (facts.num_steps - facts.step)
        if is_running:
            tiles.append((_duration(left), "left", "at the recent speed"))
    if facts.record.get("wall_seconds") and not is_running:
        tiles.append((_duration(facts.record["wall_seconds"]), "taken", "in all sessions"))
    return tiles


def _knn_tiles(facts: RunFacts) -> list[tuple[str, str, str]]:
    looks = [row for row in facts.looks if is_number(row.get("knn_accuracy"))]
    if not looks:
        return []
    best = max(looks, key=lambda row: row["knn_accuracy"])
    start = f"{looks[0]['knn_accuracy']:.3f} at the start, " if looks[0]["step"] == 0 else ""
    remark = f"{start}best {best['knn_accuracy']:.3f} at step {best['step']:,}"
    return [(f"{looks[-1]['knn_accuracy']:.3f}", "kNN accuracy", remark)]


def _health_tiles(facts: RunFacts) -> list[tuple[str, str, str]]:
    looks = [row for row in facts.looks if is_number(row.get("feature_std"))]
    if not looks:
        return []
    remark = f"{looks[-1].get('effective_rank', math.nan):.1f} directions in use"
    return [(f"{looks[-1]['feature_std']:.3f}", "spread of embeddings", remark)]


def _warnings(stretches: Sequence[Stretch]) -> list[str]:
    texts = []
    for stretch in stretches:
        facts = stretch.facts
        own = [f"failed: {facts.reason}"] if facts.reason else []
        own += [str(text) for text in facts.record.get("warnings", [])][-MAX_WARNINGS:]
        if facts.skipped:
            last = facts.skipped[-1]["step"]
            own.append(f"steps were skipped, as their gradients were not finite; the last of them is {last:,}")
        texts += [f"{facts.name}: {text}" for text in own] if len(stretches) > 1 else own
    return texts


def _charts(stretches: Sequence[Stretch]) -> list[Chart]:
    rows, looks, timings = (_shifted(stretches, kind) for kind in ("rows", "looks", "timings"))
    if not rows:
        return []
    breaks = tuple((stretch.first + 0.25, stretch.facts.name) for stretch in stretches if stretch.facts.rows)
    ends = float(rows[0]["step"]), float(max(rows[-1]["step"], rows[0]["step"] + 1))
    axes = Axes(ends, breaks[1:])
    drawn = [*_loss_charts(rows, axes), *_health_charts(stretches, rows, looks, axes), *_time_charts(timings, axes)]
    return [one for one in drawn if one is not None]


def _shifted(stretches: Sequence[Stretch], kind: str) -> list[Row]:
    """Return the rows of all stages with steps counted through; a look before the first comes behind the last stage."""
    return [
        row | {"step": max(row["step"], 0.5 * (stretch.first > 0)) + stretch.first}
        for stretch in stretches
        for row in getattr(stretch.facts, kind)
    ]


def _loss_charts(rows: Sequence[Row], axes: Axes) -> list[Chart | None]:
    keys = dict.fromkeys(key for row in rows for key in row)
    terms = [key for key in keys if key not in (*OBSERVED, "loss") and not key.startswith(NORM)]
    norms = [key for key in keys if key.startswith(NORM)]
    robust = Axes(axes.span, axes.breaks, is_robust=True)
    logarithmic = Axes(axes.span, axes.breaks, is_log=True, is_robust=True)
    return [
        chart("Loss", [curve("loss", rows, "loss")], robust, "what is minimised: the sum of its terms"),
        chart("Loss terms", _curves(rows, terms), robust, "weighted") if len(terms) > 1 else None,
        chart("Learning rate", [curve("learning rate", rows, "lr")], axes, "of the top layer"),
        chart("Weight decay", [curve("weight decay", rows, "weight_decay")], axes),
        chart("Gradient norms", _curves(rows, norms, NORM), logarithmic, "of each part, before clipping"),
    ]


def _health_charts(
    stretches: Sequence[Stretch], rows: Sequence[Row], looks: Sequence[Row], axes: Axes
) -> list[Chart | None]:
    can_collapse = any("teacher_entropy" in row for row in rows[-1:])
    spread, rank, uniform, start = [], [], [], []
    if can_collapse:
        spread, rank = [(SMALLEST_STD, "collapse")], [(SMALLEST_RANK, "collapse")]
        prototypes = stretches[0].facts.value("method.head.prototypes")
        uniform = [(math.log(prototypes), "uniform")] if prototypes else []
    if looks and looks[0]["step"] == 0 and is_number(looks[0].get("knn_accuracy")):
        start = [(float(looks[0]["knn_accuracy"]), "start")]
    entropy = [curve("entropy", rows, "teacher_entropy")]
    return [
        chart("kNN accuracy", [curve("accuracy", looks, "knn_accuracy")], axes, "20 neighbours", start),
        chart(
            "Spread of embeddings", [curve("spread", looks, "feature_std")], axes, "0 collapsed, 1 isotropic", spread
        ),
        chart("Effective rank", [curve("rank", looks, "effective_rank")], axes, "directions in use", rank),
        chart("Teacher entropy", entropy, axes, "of its image targets", uniform),
    ]


def _time_charts(timings: Sequence[Row], axes: Axes) -> list[Chart | None]:
    robust = Axes(axes.span, axes.breaks, is_robust=True)
    return [
        chart("Speed", [curve("scans a second", timings, "scans_per_second")], robust),
        chart("Waiting for data", [curve("% of a step", timings, "data_wait", 100.0)], robust),
        chart("Peak memory", [curve("GB", timings, "peak_memory_gb")], axes, "of the device"),
    ]


def _curves(rows: Sequence[Row], keys: Sequence[str], prefix: str = "") -> list[Curve]:
    return [curve(key.removeprefix(prefix).replace("_", " "), rows, key) for key in keys]


def _stage_row(facts: RunFacts) -> dict[str, str]:
    warnings = len(facts.record.get("warnings", []))
    return {
        "name": facts.name,
        "status": str(facts.record.get("status", "not begun")),
        "steps": f"{facts.step:,} of {facts.num_steps:,}" if facts.settings else "",
        "loss": number_text(facts.rows[-1]["loss"]) if facts.rows and is_number(facts.rows[-1].get("loss")) else "",
        "knn": next((value for value, _, _ in _knn_tiles(facts)), ""),
        "warnings": str(warnings or ""),
    }


def _about(facts: RunFacts) -> dict[str, str]:
    """Return what the run was done with."""
    about: dict[str, str] = {key: str(facts.record[key]) for key in ("started", "ended") if key in facts.record}
    if "num_entries" in facts.data:
        about |= {"scans": f"{facts.data['num_entries']:,}", "corpus": str(facts.data.get("fingerprint", ""))}
    return about | dict(facts.record.get("environment", {}))


def _setting(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_setting(item) for item in value)}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {_setting(item)}' for key, item in value.items())}}}"
    return "none" if value is None else ("yes" if value else "no") if isinstance(value, bool) else f"{value}"


def _duration(seconds: float) -> str:
    """Return a time in the unit that people read: `2.5 h`."""
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{max(0, round(seconds))} s"


def _data_uri(path: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"
