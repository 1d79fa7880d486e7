"""Fitting the weights of a vision transformer to another architecture: pure functions on its tensors.

Each returns a new state and, for the report, what it changed and how. Nothing is changed unless a caller asks for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from scanlore.backbones.positions import resize_grid
from scanlore.backbones.settings import ViTSettings
from scanlore.errors import ModelError

State = dict[str, Tensor]
Adapted = list[tuple[str, str]]

KERNEL, BIAS, POSITIONS = "patch_embed.proj.weight", "patch_embed.proj.bias", "pos_embed"


def resize_positions(state: State, source: ViTSettings, target: ViTSettings) -> tuple[State, Adapted]:
    """Resize the position embedding to the grid of another architecture.

    Args:
        state: Of a network with the settings `source`.
        source: Its settings.
        target: Settings of the network it is for; they also say how to interpolate.

    Returns:
        The state, and what was adapted: nothing where the grids are equal or the positions rotary.

    Raises:
        ModelError: One has two axes and the other three, or one learned and the other rotary positions.
    """
    _check_positions(source, target)
    if source.ndim != target.ndim:
        fix = "`inflate` makes a network for volumes from one for images" if source.ndim == 2 else None
        raise ModelError(f"weights for {source.ndim}D views do not fit a {target.ndim}D network", fix=fix)
    stored, wanted = _grid(source), _grid(target)
    if source.positions == "rope" or stored == wanted:
        return dict(state), []
    resized = resize_grid(state[POSITIONS], stored, wanted, target)
    return state | {POSITIONS: resized}, [(POSITIONS, f"resized from {_written(stored)} to {_written(wanted)} patches")]


def fold_grey(
    state: State, mean: Sequence[float], std: Sequence[float], input_range: tuple[float, float]
) -> tuple[State, Adapted]:
    """Fold a patch embedding of normalised colours into one for grey values, exact for grey images.

    The network computes `sum_c W_c ((v - mean_c) / std_c) + b` with the same `v` in every colour; a view holds `u` with
    `v = (u - low) / (high - low)`. Both maps are linear, so one kernel and one bias compute the same from `u`.

    Args:
        state: Of a network for as many colours as `mean` has.
        mean: What is subtracted from each colour, for values in [0, 1].
        std: What each colour is divided by.
        input_range: The values of a view that stand for 0 and 1, e.g. `(-1, 1)` for `percentile-0.05-99.95`.

    Raises:
        ModelError: The network takes another number of channels.
    """
    kernel, bias = state[KERNEL].double(), state[BIAS].double()
    if not kernel.shape[1] == len(mean) == len(std):
        raise ModelError(f"weights for {kernel.shape[1]} channels have no {len(mean)} colours to fold into grey")
    (low, high), shape = input_range, (-1, *[1] * (kernel.ndim - 2))
    offset, scale = (torch.tensor(list(values), dtype=torch.float64).view(shape) for values in (mean, std))
    gain = 1 / (high - low)
    folded = {
        KERNEL: (kernel / scale * gain).sum(1, keepdim=True),
        BIAS: bias + (kernel * ((-low * gain - offset) / scale)).flatten(1).sum(1),
    }
    cast = {name: tensor.to(state[name].dtype) for name, tensor in folded.items()}
    how = f"{len(mean)} colours folded into grey, with their normalisation and the range [{low:g}, {high:g}]"
    return state | cast, [(name, how) for name in cast]


def inflate(
    state: State, source: ViTSettings, target: ViTSettings, how: Literal["average", "centre"]
) -> tuple[State, Adapted]:
    """Turn the weights of a network for images into those of one for volumes; blocks are taken as they are.

    The kernel is resized to the new patch so that patches resized with it get the same response (Beyer et al. 2023,
    FlexiViT, section 3.4: exact where the patch grows), then put into the depth, the last axis. A volume of equal
    slices gets the patch embeddings of its slice. The position embedding is resized in the plane by the rules of
    `source`, and repeated over the depth.

    Args:
        state: Of a 2D network with the settings `source`.
        source: Its settings.
        target: Settings of the 3D network.
        how: `average` spreads the kernel evenly over the depth of a patch, `centre` puts it into the middle slice.

    Raises:
        ModelError: The networks are not of two and three axes, or have rotary positions, whose axes share the width of
            a head differently.
    """
    _check_positions(source, target)
    if (source.ndim, target.ndim) != (2, 3) or source.positions == "rope":
        kinds = f"{source.ndim}D to {target.ndim}D, {source.positions} positions"
        raise ModelError(f"only a 2D network with learned positions can be inflated, to 3D; not {kinds}")
    edge, depth = source.patch_size, target.patch_size
    kernel = _spread(_resize_kernel(state[KERNEL], depth), depth, how)
    changed = {KERNEL: kernel.to(state[KERNEL].dtype), POSITIONS: _repeat_positions(state[POSITIONS], source, target)}
    said = {"average": "averaged over the depth", "centre": "in the middle slice"}[how]
    adapted = [
        (KERNEL, f"inflated from {edge}x{edge} to {depth}x{depth}x{depth}, {said}"),
        (POSITIONS, f"inflated from {_written(_grid(source))} to {_written(_grid(target))} patches"),
    ]
    return state | changed, adapted


def _check_positions(source: ViTSettings, target: ViTSettings) -> None:
    if source.positions != target.positions:
        what = f"weights with {source.positions} positions do not fit a network with {target.positions} positions"
        raise ModelError(what, fix=f"set backbone.positions to {source.positions}")


def _grid(settings: ViTSettings) -> tuple[int, ...]:
    return (settings.image_size // settings.patch_size,) * settings.ndim


def _written(grid: tuple[int, ...]) -> str:
    return "x".join(map(str, grid))


def _resize_kernel(kernel_DCHW: Tensor, edge: int) -> Tensor:
    """Return kernels `(D, C, edge, edge)` by the pseudo-inverse of the matrix that resizes a patch along one axis."""
    old = kernel_DCHW.shape[-1]
    if old == edge:
        return kernel_DCHW.double()
    columns = torch.eye(old, dtype=torch.float64)[None, None]
    resize = F.interpolate(columns, size=(edge, old), mode="bicubic", antialias=True)[0, 0]
    inverse: Tensor = torch.linalg.pinv(resize.mT)
    return inverse @ kernel_DCHW.double() @ inverse.mT


def _spread(kernel_DCHW: Tensor, depth: int, how: str) -> Tensor:
    if how == "average":
        return (kernel_DCHW / depth)[..., None].repeat_interleave(depth, dim=-1)
    return F.pad(kernel_DCHW[..., None], (depth // 2, depth - 1 - depth // 2))


def _repeat_positions(pos_embed: Tensor, source: ViTSettings, target: ViTSettings) -> Tensor:
    edge = _grid(target)[0]
    if _grid(source) != (edge, edge):
        pos_embed = resize_grid(pos_embed, _grid(source), (edge, edge), source)
    return torch.cat([pos_embed[:, :1], pos_embed[:, 1:].repeat_interleave(edge, dim=1)], dim=1)
