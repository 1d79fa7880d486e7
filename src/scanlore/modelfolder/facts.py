"""Reading `model.json`, without importing torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from scanlore.errors import ModelError

FORMAT_VERSION = 1
KINDS = ("random", "pixels", "dinov2", "3dino", "timm", "hf")
GRAMMAR = (
    "a model folder, a pretraining run, RUN@STEP, random:NAME, random:PATH, pixels:EDGE, dinov2:NAME, dinov2:FILE, "
    "3dino:FILE, timm:NAME, hf:ORG/NAME or hf:FOLDER"
)


def read_backbone_facts(folder: Path) -> dict[str, Any]:
    """Read `model.json` of a backbone.

    Raises:
        ModelError: As `read_facts`, or the folder holds a segmenter.
    """
    facts = read_facts(folder)
    if facts.get("kind", "backbone") != "backbone":
        fix = "`scanlore predict` takes it; its pretrained model gives features"
        raise ModelError(f"is a {facts['kind']}: it gives labels, no features", where=folder, fix=fix)
    return facts


def read_facts(folder: Path) -> dict[str, Any]:
    """Read `model.json`.

    Raises:
        ModelError: The folder is no model folder, or the file is missing, damaged or of another format.
    """
    path = folder / "model.json"
    if not path.is_file() and not (folder / "model.safetensors").is_file():
        raise ModelError("is no model folder", where=folder, fix=f"a model is {GRAMMAR}")
    if not path.is_file():
        raise ModelError("the model folder has no model.json", where=folder, fix="copy the folder again, whole")
    try:
        facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        version, complete = facts["format_version"], {"architecture", "preprocessing"} <= facts.keys()
    except (ValueError, KeyError, TypeError, AttributeError):
        version, complete = FORMAT_VERSION, False
    if version != FORMAT_VERSION:
        fix = f"this version of Scanlore reads format {FORMAT_VERSION}"
        raise ModelError(f"has format {version!r}", where=path, fix=fix)
    if not complete:
        raise ModelError("is damaged", where=path, fix="copy the model folder again, whole")
    return facts
