"""The page of `explain`: what models see in scans, side by side."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scanlore.reports.page import Section, write_page

NUM_SHOWN = 40
FACTS, PANEL = "facts.json", "panel.png"
READING = """Features: the principal components of the features of all patches. The first one parts the background
(white) from the rest: it is cut at its mean; dark grey is what a model does not see. The second, third and fourth are
red, green and blue. Equal colours are equal features within one picture, and within all pictures of a model whose
components are joint or given. Two models never share their colours.

Attention: how much the [CLS] token attends to each patch, from dark to bright. It says where a network looks, not why,
and is no evidence of what a decision rests on.

Both are computed patch by patch and interpolated to the voxels: nothing finer than a patch is real."""
CAPTION = "Planes through the middle of what the model sees; superior or anterior is up, the patient's right is left."


def write_explain_page(out: Path, models: list[dict[str, object]], problems: Sequence[tuple[str, str]]) -> None:
    """Write `report.html` over what lies in `scans/`.

    Args:
        out: The folder of the command.
        models: A row for each model.
        problems: Name and reason of each scan that could not be used.
    """
    folders = sorted(path.parent for path in (out / "scans").glob(f"*/{FACTS}"))
    sections = [
        Section("How to read this", "\n\n".join(part.replace("\n", " ") for part in READING.split("\n\n"))),
        Section("Models", table=models),
    ]
    if problems:
        rows: list[dict[str, object]] = [{"scan": name, "reason": reason} for name, reason in problems]
        sections.append(Section("Scans that could not be used", table=rows))
    for folder in folders[:NUM_SHOWN]:
        sections += _scan_sections(folder)
    if len(folders) > NUM_SHOWN:
        text = f"The pictures of {len(folders) - NUM_SHOWN} more are in the folder scans."
        sections.append(Section("More scans", text))
    write_page(out / "report.html", "What the models see", sections)


def _scan_sections(folder: Path) -> list[Section]:
    facts: dict[str, Any] = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    caption = CAPTION if facts["ndim"] == 3 else ""
    sections = [Section(folder.name, " ".join(facts["notes"]), facts["models"], (folder / PANEL).read_bytes(), caption)]
    for path in sorted(folder.glob("*_heads.png")):
        name = path.name.removesuffix("_heads.png")
        text = f"{name}: the attention of each head"
        sections.append(Section(f"{folder.name}, {name}", figure=path.read_bytes(), caption=text))
    return sections
