"""A basis of principal components as a file, bound to the model whose features it was fitted on."""

from __future__ import annotations

import io
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from scanlore.errors import ModelError
from scanlore.reports.pca import Basis
from scanlore.run import write_atomically


@dataclass(frozen=True)
class KeptBasis:
    """A basis and what it belongs to.

    Attributes:
        basis: The components.
        weights: Fingerprint of the model's weights.
        layer: Index of the layer whose features they are of.
        model: How the model was referred to.
        num_scans: Scans it was fitted on.
    """

    basis: Basis
    weights: str
    layer: int
    model: str
    num_scans: int


def save_basis(path: Path, kept: KeptBasis) -> None:
    """Write a basis as an `.npz` file, whole or not at all; its folder exists."""
    facts: dict[str, Any] = {
        "weights": kept.weights,
        "layer": kept.layer,
        "model": kept.model,
        "num_scans": kept.num_scans,
    }
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **asdict(kept.basis), **facts)
    write_atomically(path, buffer.getvalue())


def load_basis(path: Path) -> KeptBasis:
    """Read a basis; nothing in the file is executed.

    Raises:
        ModelError: There is no such file, or it is no basis.
    """
    if not path.is_file():
        raise ModelError("there is no such file", where=path, fix="`scanlore explain --joint` writes one")
    try:
        with np.load(path, allow_pickle=False) as file:
            kept = _kept(dict(file))
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
        raise ModelError("is no basis of principal components, or a damaged one", where=path) from None
    basis = kept.basis
    width = len(basis.mean)
    is_whole = basis.axes.shape == (4, width) and basis.shares.shape == (4,) and basis.low.shape == (3,)
    numbers = np.concatenate([basis.mean, basis.axes.ravel(), basis.low, basis.high, [basis.threshold]])
    if not (is_whole and basis.high.shape == (3,) and np.isfinite(numbers).all()):
        raise ModelError("is a damaged basis of principal components", where=path)
    return kept


def _kept(arrays: dict[str, npt.NDArray[Any]]) -> KeptBasis:
    vectors = {name: arrays[name].astype(np.float64) for name in ("mean", "axes", "shares", "low", "high")}
    basis = Basis(**vectors, threshold=float(arrays["threshold"]), is_above=bool(arrays["is_above"]))
    return KeptBasis(
        basis, str(arrays["weights"]), int(arrays["layer"]), str(arrays["model"]), int(arrays["num_scans"])
    )
