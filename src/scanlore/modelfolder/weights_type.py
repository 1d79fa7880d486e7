"""The weights of a model, whatever file they come from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from scanlore.backbones.settings import ResEncSettings, ViTSettings
from scanlore.modelfolder.preprocessing import Preprocessing
from scanlore.modelfolder.report import LoadReport


@dataclass(frozen=True)
class Weights:
    """Weights, as they are stored, and all that is known about them.

    Attributes:
        name: The reference they were asked for by.
        architecture: Of the network.
        backbone: Its tensors, whole, by our names.
        heads: Tensors of projection heads, empty where there are none.
        preprocessing: From scan to view.
        facts: As in `model.json`: architecture, preprocessing, provenance, licence.
        report: What became of the tensors of the file.
    """

    name: str
    architecture: ViTSettings | ResEncSettings
    backbone: dict[str, Tensor]
    heads: dict[str, Tensor]
    preprocessing: Preprocessing
    facts: dict[str, Any]
    report: LoadReport = field(default_factory=LoadReport)
