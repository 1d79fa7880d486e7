"""What a model makes of one scan, patch by patch: features and [CLS] attention, with their place in the scan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scanlore.errors import ConfigError, DataError
from scanlore.inference.attention import cls_attention, has_attention
from scanlore.inference.lattice import Doubles, Floats, Lattice, lattice_of
from scanlore.modelfolder.model import Model
from scanlore.scans.scan import Scan

FINEST_GRID = {2: 32, 3: 16}
"""Patches along the longest edge that a scan of fine voxels is seen in, unless asked for otherwise."""
MOST_CELLS, MOST_VOXELS = 8000, 320**3
"""Of one view: the attention of a block takes heads times the square of the cells, a CNN many maps of the voxels."""
WIDEST = {2: 1024, 3: 192}
"""Voxels along each edge of a view that keeps a spacing, at most, unless asked for otherwise."""
FINE_STRIDE = 8
"""Voxels per cell of the map of a CNN that is shown unless asked for otherwise, at most."""
NUM_VIEWS = 4
"""Slices that pass the network at once."""


@dataclass(frozen=True)
class PatchMaps:
    """The maps of one scan.

    Attributes:
        features: `(D, *grid)` along the scan's axes.
        attention: `(heads, *grid)`; `None` for a network without.
        lattice: Where the grid lies in the scan.
    """

    features: Floats
    attention: Floats | None
    lattice: Lattice


def pick_layer(model: Model, layer: int | None) -> int:
    """Return the index of the layer to look at.

    Args:
        model: The model.
        layer: Index, negative from the end. `None` is the last block of a transformer, and of a CNN the deepest map
            with at most `FINE_STRIDE` voxels per cell.

    Raises:
        ConfigError: There is no such layer.
    """
    backbone: Any = model.backbone
    if layer is None and not has_attention(backbone):
        return max(index for index, stride in enumerate(backbone.map_strides) if stride <= FINE_STRIDE)
    try:
        return range(model.num_layers)[-1 if layer is None else layer]
    except IndexError:
        fix = f"{model.name} has layers 0 to {model.num_layers - 1}; -1 is the last"
        raise ConfigError(f"no layer {layer}", where="layer", fix=fix) from None


def check_grid(model: Model, grid: int | None) -> None:
    """Refuse a grid that takes too much memory, or too little of the scan.

    Raises:
        ConfigError: The grid cannot be used with this model.
    """
    backbone: Any = model.backbone
    ndim, patch = model.preprocessing.ndim, int(backbone.patch_size)
    least = -(-int(backbone.min_size) // patch)
    cells, voxels = (int(most ** (1 / ndim) + 1e-6) for most in (MOST_CELLS, MOST_VOXELS))
    most = min(cells, voxels // patch)
    if grid is not None and not least <= grid <= most:
        fix = f"{model.name} takes {least} to {most} patches of {patch} voxels an edge"
        raise ConfigError(f"{grid} patches an edge cannot be used", where="grid", fix=fix)


def patch_maps(model: Model, scan: Scan, layer: int, grid: int | None = None, device: str = "cpu") -> PatchMaps:
    """Compute the patch features of a scan, and its [CLS] attention where the network has one.

    A 2D model sees a volume slice by slice; the maps of the slices are stacked. Of a scan of several channels that the
    model takes one by one, the first is shown.

    Args:
        model: In evaluation mode, already on `device`.
        scan: 2D or 3D.
        layer: Index of the layer, from `pick_layer`.
        grid: Patches along the longest edge of a view. `None`: a transformer sees stretched scans as finely as their
            voxels allow, between the grid it was trained on and `FINEST_GRID`; a network that keeps a spacing sees the
            scan around its centre up to `WIDEST`.
        device: Of the forward pass.

    Raises:
        ModelError: The model cannot see the scan.
        DataError: The network gives values that are not finite.
    """
    if scan.ndim == 3 or scan.num_channels != model.preprocessing.in_channels:
        scan = replace(scan, voxels=scan.voxels[:1])
    own_affines = model.view_affines(scan)
    viewer = _resized(model, _view_shape(model, own_affines[0], scan.shape, grid))
    views = viewer.views(scan)
    is_stretched = model.preprocessing.resize == "stretch"
    affines = own_affines if is_stretched else viewer.view_affines(scan)
    features, attention = _forward(model, views, layer, device)
    shape = (model.preprocessing if is_stretched else viewer.preprocessing).shape
    lattice = lattice_of(affines, shape, features.shape[2:])
    whole = _along_scan(features, affines)
    if not np.isfinite(whole).all():
        raise DataError("the network gives values that are not finite", where=model.name)
    return PatchMaps(whole, None if attention is None else _along_scan(attention, affines), lattice)


def _view_shape(model: Model, affine: Doubles, shape: tuple[int, ...], grid: int | None) -> tuple[int, ...]:
    """Return the shape of the views to compute, a multiple of the patch along each axis.

    Args:
        model: The model.
        affine: Of one of its own views.
        shape: Of the scan.
        grid: As in `patch_maps`.
    """
    facts, backbone = model.preprocessing, cast(Any, model.backbone)
    own, patch, ndim = facts.shape, int(backbone.patch_size), facts.ndim
    steps = np.linalg.norm(affine[:, :-1], axis=0)
    if grid is None and facts.resize == "centre-crop":
        sizes = np.array(shape)[np.abs(affine[:, :-1]).argmax(0)] / steps
        fitting = np.ceil(np.minimum(sizes, WIDEST[ndim]) / patch).astype(int) * patch
        return tuple(max(one, other) for one, other in zip(own, fitting.tolist(), strict=True))
    edge = max(own) if grid is None else grid * patch
    if grid is None and has_attention(model.backbone):
        finest = min(float((steps * own).max()), FINEST_GRID[ndim] * patch)
        edge = max(edge, int(finest) // patch * patch)
    return own if edge == max(own) else tuple(max(1, round(one * edge / max(own) / patch)) * patch for one in own)


def _resized(model: Model, shape: tuple[int, ...]) -> Model:
    """Return the model with views of another shape."""
    if shape == model.preprocessing.shape:
        return model
    update = {"input_size": max(shape), "input_shape": shape}
    return Model(model.name, model.backbone, model.preprocessing.model_copy(update=update), model.facts)


def _forward(model: Model, views: Tensor, layer: int, device: str) -> tuple[Floats, Floats | None]:
    """Return `(V, D, *grid)` features and `(V, heads, *grid)` attention."""
    features, attention = [], []
    for part in views.split(NUM_VIEWS if model.preprocessing.ndim == 2 else 1):
        with torch.inference_mode():
            on_device = part.to(device)
            features.append(model.forward_features(on_device, [layer]).maps[-1].float().cpu().numpy())
        if has_attention(model.backbone):
            attention.append(cls_attention(model.backbone, on_device, layer).cpu().numpy())
    return np.concatenate(features), np.concatenate(attention) if attention else None


def _along_scan(maps: npt.NDArray[np.float32], affines: Sequence[Doubles]) -> Floats:
    """Stack the maps of slices `(V, C, *grid)` along the axis they lie across; average views of one place."""
    linear = affines[0][:, :-1]
    if linear.shape[0] == linear.shape[1]:
        return np.asarray(maps.mean(0))
    across = int(np.flatnonzero(~linear.any(1))[0])
    return np.ascontiguousarray(np.moveaxis(maps, 0, 1 + across))
