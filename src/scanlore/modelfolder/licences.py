"""Licences of weights: they travel in `facts["licence"]`, also into what is continued from them; torch-free."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

DINOV2 = "Apache-2.0 (DINOv2)"
THREE_DINO = "CC BY-NC-ND 4.0 (3DINO-ViT)"
OF_A_FILE = "not known: of the one who made the file (DINOv2's own weights are Apache-2.0)"
OF_A_PAGE = "not known: see the model's page"

_NO_DERIVATIVES = re.compile(r"(?<![A-Z])ND(?![A-Z])|NO[ -]?DERIV", re.IGNORECASE)


def may_export(facts: Mapping[str, Any]) -> str | None:
    """Return why weights may not be written into a file for others; `None` where nothing known forbids it.

    A licence without derivatives (3DINO's) allows to use weights, not to share them changed, converted or trained on.

    Args:
        facts: Of the model, with its `licence`.
    """
    licence = str(facts.get("licence") or "")
    if _NO_DERIVATIVES.search(licence):
        return f"the licence of its weights, {licence}, allows nobody to share what is made from them"
    return None
