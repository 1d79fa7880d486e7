"""The page of a corpus as one HTML file that needs no network: composition, geometry, what was dropped, a gallery."""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files
from pathlib import Path
from typing import Any

import polars as pl

from scanlore.corpus.reasons import UNKNOWN
from scanlore.reports.corpus_charts import HEIGHT, Colours, colours, hierarchy, simple_bars, stacked_bars
from scanlore.reports.corpus_counts import COUNTED, STATUSES, described, lost, problems, rules, tally
from scanlore.reports.corpus_gallery import cards, choose
from scanlore.reports.corpus_histograms import ages, geometry_panels
from scanlore.reports.page import templates
from scanlore.run import write_atomically

MAX_LISTED = 40
"""Rows listed of each rule."""
HIERARCHIES = (
    ("Scanners", "vendor, then field strength", ("vendor", "field_strength")),
    ("Acquisition", "plane, then contrast medium, then sequence", ("plane", "contrast", "sequence")),
)
FURTHER = (("Splits", "split"), ("Formats", "format"), ("Licences", "licence"))


def write_corpus_page(path: Path, root: Path, frame: pl.DataFrame, store_bytes: int, fingerprint: str) -> None:
    """Write the page; a reader of `path` sees the old page or the whole new one.

    Nothing is on it but what the index holds: closed vocabularies, numbers and hashes.

    Args:
        path: The HTML file; its folder is made where it is missing.
        root: The corpus folder, for the voxels of the thumbnails.
        frame: Its index, at least the columns `COUNTED` and `PICTURED` of `corpus_counts`.
        store_bytes: Size of the voxel store.
        fingerprint: Of the kept contents.
    """
    words = described(frame.select(COUNTED))
    kept = words.filter(pl.col("status") == "kept")
    palette = colours(value for value, _ in tally(words.filter(pl.col("status") != "failed"), "modality"))
    chosen = choose(frame)
    script = files("scanlore.reports").joinpath("templates/corpus.js").read_text(encoding="utf-8")
    text = templates(count=_count, size=_size, percent=_percent).get_template("corpus.html.j2").render(
        fingerprint=fingerprint,
        tiles=_tiles(frame, store_bytes),
        statuses=[(status, frame.filter(pl.col("status") == status).height) for status in STATUSES],
        num_rows=frame.height,
        num_kept=kept.height,
        has_channels=bool((frame["num_channels"] > 1).any()),
        height=HEIGHT,
        **_composition(kept, words, palette),
        panels=geometry_panels(kept, palette),
        lost=_lost(frame),
        problems=simple_bars(problems(kept)),
        cards=cards(root, chosen),
        num_stored=frame["shard"].count(),
        choices={name: sorted(described(chosen)[name].unique()) for name in ("status", "dataset", "modality")},
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"),
    )  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text)


def _tiles(frame: pl.DataFrame, store_bytes: int) -> list[tuple[str, str, str]]:
    """Return value, name and remark of the headline numbers."""
    counts = {status: frame.filter(pl.col("status") == status).height for status in STATUSES}
    kept = frame.filter(pl.col("status") == "kept")
    file_bytes = int(frame.select("source", "bytes").unique("source")["bytes"].sum())
    listed = [
        (_count(counts["kept"]), "kept", f"{_percent(counts['kept'] / (frame.height or 1))} of {frame.height:,} scans"),
        (_count(counts["dropped"]), "dropped", "by rules; stored all the same"),
        (_count(counts["failed"]), "failed", "could not be read"),
    ]
    for column, name in (("dataset", "datasets"), ("patient", "patients"), ("site", "sites")):
        known, missing = kept[column].drop_nulls().n_unique(), kept[column].null_count()
        remark = f"unknown for {missing:,} kept scans" if missing else "of the kept scans"
        listed.append((_count(known), name, remark))
    return [*listed, (_size(store_bytes), "store", f"from {_size(file_bytes)} of files")]


def _composition(kept: pl.DataFrame, words: pl.DataFrame, palette: Colours) -> dict[str, Any]:
    sexes = colours(value for value, _ in tally(kept, "sex"))
    present = {value for value, _ in tally(kept, "modality")}
    return {
        "legend": [(value, colour) for value, colour in palette.items() if value in present],
        "datasets": stacked_bars(kept, "dataset", "modality", palette),
        "not_kept": dict(tally(words.filter(pl.col("status") != "kept"), "dataset")),
        "body_parts": stacked_bars(kept, "body_part", "modality", palette),
        "sequences": stacked_bars(kept, "sequence", "modality", palette),
        "hierarchies": [
            (title, levels, len(columns), hierarchy(kept, columns)) for title, levels, columns in HIERARCHIES
        ],
        "ages": ages(kept, sexes),
        "sexes": [(one.label, sexes[one.label], one.count) for one in simple_bars(tally(kept, "sex"))],
        "further": [(title, simple_bars(tally(kept, column))) for title, column in FURTHER],
    }


def _lost(frame: pl.DataFrame) -> list[dict[str, Any]]:
    """Return the rules that dropped scans and the kinds of failure, each with some of its rows."""
    gone = lost(frame).with_columns(pl.col("dataset", "format").fill_null(UNKNOWN)).sort("source", "channel")
    columns = ("source", "channel", "dataset", "format", "reason")
    listed = gone.group_by("status", "rule", maintain_order=True).head(MAX_LISTED)
    parts = listed.partition_by("status", "rule", as_dict=True)
    found = []
    for rule in rules(frame):
        rows = parts[rule["status"], rule["rule"]].select(columns)
        found.append(rule | {"listed": rows.to_dicts(), "share": rule["rows"] / frame.height})
    return found


def _count(value: int) -> str:
    return f"{value:,}"


def _percent(share: float) -> str:
    return f"{share:.1%}".replace(".0%", "%")


def _size(num_bytes: int) -> str:
    """Return bytes in the unit that people read: `1.3 GB`."""
    value = float(num_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} TB"
