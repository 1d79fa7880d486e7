"""What every protocol leaves after it has seen training and validation cases."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from scanlore.inference.extract import FeatureTable

Labels = npt.NDArray[np.integer]
Probabilities = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Fitted:
    """A classifier on features, its choices made: test cases are shown to nothing but `predict`.

    Attributes:
        predict: Takes the features of N cases, gives `(N, K)` probabilities.
        num_configs: How many configurations were compared.
        selection: The rule that chose among them.
        chosen: The configuration it chose.
        warnings: Doubts about the choice, one sentence each.
    """

    predict: Callable[[FeatureTable], Probabilities]
    num_configs: int
    selection: str
    chosen: dict[str, Any]
    warnings: tuple[str, ...] = ()
