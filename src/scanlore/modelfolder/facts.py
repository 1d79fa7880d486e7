"""Reading `model.json`, without importing torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from scanlore.errors import ModelError

FORMAT_VERSION = 1


def read_facts(folder: Path) -> dict[str, Any]:
    """Read `model.json`.

    Raises:
        ModelError: It is missing, damaged or of another format.
    """
    path = folder / "model.json"
    if not path.is_file():
        raise ModelError("the model folder has no model.json", where=folder, fix="copy the folder again, whole")
    try:
        facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        known = facts["format_version"] == FORMAT_VERSION and {"architecture", "preprocessing"} <= facts.keys()
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ModelError("is damaged", where=path, fix="copy the model folder again, whole") from None
    if not known:
        fix = f"this version of Scanlore reads format {FORMAT_VERSION}"
        raise ModelError(f"has format {facts['format_version']!r}", where=path, fix=fix)
    return facts
