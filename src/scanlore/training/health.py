"""Is it learning? Label-free measures of a representation, and the alarm when it collapses."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

# Alarm levels: healthy embeddings of different scans have a normalised spread of 0.3 and more.
SMALLEST_STD = 0.05
SMALLEST_RANK = 1.5
REMEDY = "lower optim.lr, raise training.batch_size, use fewer method.head.prototypes, or set method.koleo_weight: 0"


def feature_std(embeddings_ND: Tensor) -> float:
    """Return the mean standard deviation of unit-length embeddings times sqrt(D): 0 is collapse, 1 isotropic."""
    unit = F.normalize(embeddings_ND.double(), dim=-1)
    return float(unit.std(0, correction=0).mean() * math.sqrt(unit.shape[1]))


def effective_rank(embeddings_ND: Tensor) -> float:
    """Return RankMe: the exponential of the entropy of the singular values (Garrido et al. 2023, eq. 1).

    Embeddings are centred first, so that a common offset does not count as a direction.
    """
    centred = embeddings_ND.double() - embeddings_ND.double().mean(0)
    singular = torch.linalg.svdvals(centred)
    if float(singular.sum()) < 1e-12:
        return 1.0
    shares = singular / singular.sum()
    return float(torch.exp(-(shares * (shares + 1e-12).log()).sum()))


def health(embeddings_ND: Tensor) -> dict[str, float]:
    """Return `feature_std` and `effective_rank` of the embeddings of different scans."""
    return {"feature_std": feature_std(embeddings_ND), "effective_rank": effective_rank(embeddings_ND)}


def alarm(values: dict[str, float], num_prototypes: int) -> str | None:
    """Return a warning that says what to change when the representation has collapsed, else `None`.

    Args:
        values: `feature_std`, `effective_rank` and, where the method has one, `teacher_entropy`.
        num_prototypes: The entropy of uniform targets is its logarithm.
    """
    signs = []
    if values["feature_std"] < SMALLEST_STD:
        signs.append(f"embeddings of different scans are nearly equal (spread {values['feature_std']:.3f})")
    if values["effective_rank"] < SMALLEST_RANK:
        signs.append(f"they span {values['effective_rank']:.2f} directions")
    if values.get("teacher_entropy", 0.0) > 0.999 * math.log(num_prototypes):
        signs.append("the teacher's targets are uniform")
    return f"collapse: {'; '.join(signs)}. {REMEDY[0].upper()}{REMEDY[1:]}" if signs else None
