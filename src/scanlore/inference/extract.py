"""Features of whole scans: one row per scan, its views averaged as the model's preprocessing says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from scanlore.backbones.device import Precision
from scanlore.errors import DataError
from scanlore.inference.forward import Floats, ScanFeatures, forward_scans, source_name
from scanlore.modelfolder.model import Model
from scanlore.scans.bad_scans import BadScans
from scanlore.scans.find import Source


@dataclass(frozen=True)
class FeatureTable:
    """Features of N scans.

    Attributes:
        names: Name of each scan.
        cls: `(N, D_l)` embeddings of each of the last L layers, shallow to deep.
        patch_mean: `(N, D)` mean patch token of the last layer.
        embedding: `(N, E)` what the model's preprocessing calls its embedding.
        num_views: Views each row is the mean of.
        problems: Name and reason of each scan that could not be used; these have no row.
    """

    names: tuple[str, ...]
    cls: tuple[Floats, ...]
    patch_mean: Floats
    embedding: Floats
    num_views: tuple[int, ...]
    problems: tuple[tuple[str, str], ...] = ()

    def take(self, rows: Sequence[int] | npt.NDArray[np.integer]) -> FeatureTable:
        """Return the table of some rows, in the order asked for; without problems."""
        index = np.asarray(rows, dtype=np.intp)
        names = tuple(self.names[row] for row in index)
        num_views = tuple(self.num_views[row] for row in index)
        cls = tuple(layer[index] for layer in self.cls)
        return FeatureTable(names, cls, self.patch_mean[index], self.embedding[index], num_views)


def extract(
    model: Model,
    sources: Sequence[Source | Path],
    *,
    num_layers: int = 1,
    batch_size: int = 8,
    device: str = "cpu",
    precision: Precision = "auto",
    max_bad: float = 0.01,
    progress: Callable[[int, int], None] | None = None,
    visit: Callable[[ScanFeatures], None] | None = None,
) -> FeatureTable:
    """Compute the features of many scans; those that cannot be used are skipped, counted and listed.

    Args:
        model: The model, already on `device`.
        sources: The scans.
        num_layers: How many last layers to take embeddings of; at most those the model has.
        batch_size: Views that pass the network at once.
        device: Device of the forward pass.
        precision: `auto` is bfloat16 on CUDA and float32 elsewhere.
        max_bad: Share of scans that may be unusable; one always may.
        progress: Called with the number of scans read and their total.
        visit: Called with the features of each scan, patch features included.

    Raises:
        DataError: No scan, or too many scans cannot be used.
    """
    if not sources:
        raise DataError("no scans to extract features from")
    bad = BadScans(len(sources), max_bad)
    scans = forward_scans(
        model,
        sources,
        bad,
        num_layers=min(num_layers, model.num_layers),
        batch_size=batch_size,
        device=device,
        precision=precision,
        with_maps=visit is not None,
        progress=progress,
    )
    names, num_views = [], []
    rows: list[list[Floats]] = []
    for scan in scans:
        if visit:
            visit(scan)
        names.append(source_name(sources[scan.index]))
        num_views.append(len(scan.embedding))
        rows.append([values.mean(0) for values in (*scan.cls, scan.patch_mean, scan.embedding)])
    bad.check()
    *cls, patch_mean, embedding = (np.stack(column) for column in zip(*rows, strict=True))
    return FeatureTable(tuple(names), tuple(cls), patch_mean, embedding, tuple(num_views), tuple(bad.problems))
