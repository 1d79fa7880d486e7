"""Run a model over many scans: views read ahead in a thread, packed into batches across scans."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scanlore.backbones.device import Precision, autocast, resolve_precision
from scanlore.errors import ScanloreError
from scanlore.inference.read_ahead import read_ahead
from scanlore.modelfolder.model import Model, choose_embedding
from scanlore.scans.bad_scans import BadScans
from scanlore.scans.find import Source
from scanlore.scans.read import read_scan
from scanlore.scans.scan import FloatArray

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ScanFeatures:
    """What a model says about one scan, seen in V views (one for each channel and slice).

    Attributes:
        index: Position of the scan among the sources.
        cls: `(V, D_l)` embeddings of each of the last L layers, shallow to deep.
        patch_mean: `(V, D)` mean patch token of the last layer; the mean of a CNN's deepest map.
        embedding: `(V, E)` what the model's preprocessing calls its embedding.
        maps: `(V, D, *grid)` patch features of the last layer, float16; `None` unless asked for.
        view_shape: Spatial shape of the views.
        view_affines: For each view the map from its voxel indices to the scan's; empty unless maps are asked for.
        scan_affine: (4, 4) map from scan voxel indices to RAS+ millimetres; `None` for 2D images.
    """

    index: int
    cls: tuple[Floats, ...]
    patch_mean: Floats
    embedding: Floats
    maps: npt.NDArray[np.float16] | None
    view_shape: tuple[int, ...]
    view_affines: tuple[Doubles, ...]
    scan_affine: FloatArray | None


@dataclass(frozen=True)
class _Loaded:
    index: int
    views: Tensor
    view_affines: tuple[Doubles, ...]
    scan_affine: FloatArray | None


def source_name(source: Source | Path) -> str:
    """Return the name of a source: its path, with `#2` ... for further series of one folder."""
    return source.name if isinstance(source, Source) else source.as_posix()


def forward_scans(
    model: Model,
    sources: Sequence[Source | Path],
    bad: BadScans,
    *,
    num_layers: int = 1,
    batch_size: int = 8,
    device: str = "cpu",
    precision: Precision = "auto",
    with_maps: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[ScanFeatures]:
    """Yield the features of every readable scan, in order.

    Args:
        model: The model, already on `device`.
        sources: The scans.
        bad: Where scans that cannot be used are noted.
        num_layers: How many last layers to take embeddings of.
        batch_size: Views that pass the network at once.
        device: Device of the forward pass.
        precision: `auto` is bfloat16 on CUDA and float32 elsewhere.
        with_maps: Whether to keep the patch features and where they lie.
        progress: Called with the number of scans read and their total.
    """
    loaded = _readable(model, sources, bad, with_maps, progress)
    # On a CPU bfloat16 would blur the small differences between the features of an untrained network
    is_cpu = torch.device(device).type == "cpu"
    chosen = "fp32" if precision == "auto" and is_cpu else resolve_precision(precision, torch.device(device))
    for group in _groups(loaded, batch_size):
        views = torch.cat([item.views for item in group])
        parts = []
        for start in range(0, len(views), batch_size):
            chunk = views[start : start + batch_size].to(device)
            with torch.inference_mode(), autocast(chosen, torch.device(device)):
                parts.append(_forward(model, chunk, num_layers, with_maps))
        yield from _ungroup(group, parts, with_maps)


def _load(model: Model, with_maps: bool, job: tuple[int, Source | Path]) -> _Loaded:
    index, source = job
    scan = read_scan(source)
    affines = tuple(np.asarray(affine, np.float64) for affine in model.view_affines(scan)) if with_maps else ()
    return _Loaded(index, model.views(scan), affines, scan.affine)


def _readable(
    model: Model,
    sources: Sequence[Source | Path],
    bad: BadScans,
    with_maps: bool,
    progress: Callable[[int, int], None] | None,
) -> Iterator[_Loaded]:
    results = read_ahead(partial(_load, model, with_maps), enumerate(sources))
    for index, result in enumerate(results):
        if progress:
            progress(index + 1, len(sources))
        if isinstance(result, ScanloreError):
            bad.add(source_name(sources[index]), result)
        else:
            yield result


def _groups(loaded: Iterator[_Loaded], batch_size: int) -> Iterator[list[_Loaded]]:
    """Gather scans until their views fill a batch."""
    group: list[_Loaded] = []
    num_views = 0
    for item in loaded:
        group.append(item)
        num_views += len(item.views)
        if num_views >= batch_size:
            yield group
            group, num_views = [], 0
    if group:
        yield group


def _forward(model: Model, views: Tensor, num_layers: int, with_maps: bool) -> tuple[Any, ...]:
    features = model.forward_features(views, layers=num_layers)
    embedding = choose_embedding(features, model.preprocessing.embedding)
    parts = [*(layer.float() for layer in features.embeddings), features.pooled.float(), embedding.float()]
    if with_maps:
        parts.append(features.maps[-1].half())
    return tuple(part.cpu().numpy() for part in parts)


def _ungroup(group: Sequence[_Loaded], parts: Sequence[tuple[Any, ...]], with_maps: bool) -> Iterator[ScanFeatures]:
    starts = np.cumsum([len(item.views) for item in group])[:-1]
    columns = [np.split(np.concatenate(column), starts) for column in zip(*parts, strict=True)]
    for position, item in enumerate(group):
        values = [column[position] for column in columns]
        maps = values.pop() if with_maps else None
        *cls, patch_mean, embedding = values
        yield ScanFeatures(
            index=item.index,
            cls=tuple(cls),
            patch_mean=patch_mean,
            embedding=embedding,
            maps=maps,
            view_shape=tuple(item.views.shape[2:]),
            view_affines=item.view_affines,
            scan_affine=item.scan_affine,
        )
