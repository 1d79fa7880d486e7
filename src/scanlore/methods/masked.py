"""What masked autoencoders share: the mask of a batch, the loss on hidden voxels, and a look at a reconstruction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch.nn.functional as F
from torch import Tensor

from scanlore.views.loader import Batch

GROUP = "views"


@dataclass(frozen=True)
class Reconstruction:
    """What a masked autoencoder was shown, and what it made of it.

    Attributes:
        views: `(B, C, *spatial)` the whole views.
        hidden: `(B, 1, *spatial)` 1 where a voxel was hidden, else 0.
        output: `(B, C, *spatial)` the network's output.
    """

    views: Tensor
    hidden: Tensor
    output: Tensor


@runtime_checkable
class Rebuilds(Protocol):
    """A method that can show what it rebuilds."""

    def reconstruct(self, batch: Batch) -> Reconstruction:
        """Return the reconstruction of a batch on the method's device."""
        ...


def views_of(batch: Batch) -> Tensor:
    """Return the views of a batch, `(B, C, *spatial)`."""
    return batch.groups[GROUP].pixels


def mask_grid(spatial: tuple[int, ...], num_cells: int) -> tuple[int, ...]:
    """Return the grid of a mask of `num_cells` cubic blocks over a view.

    Args:
        spatial: Shape of the view; blocks divide it.
        num_cells: Blocks of the view.
    """
    voxels = 1
    for edge in spatial:
        voxels *= edge
    block = round((voxels / num_cells) ** (1 / len(spatial)))
    return tuple(edge // block for edge in spatial)


def hidden_blocks(batch: Batch) -> Tensor:
    """Return `(B, 1, *grid)`, true where a block is hidden."""
    spatial = tuple(views_of(batch).shape[2:])
    blocks: Tensor = batch.masks.unflatten(1, mask_grid(spatial, batch.masks.shape[1]))
    return blocks[:, None]


def in_voxels(blocks: Tensor, like: Tensor) -> Tensor:
    """Return a mask of blocks `(B, 1, *grid)` at the resolution and in the dtype of `like`, `(B, 1, *spatial)`."""
    return F.interpolate(blocks.to(like.dtype), size=like.shape[2:], mode="nearest")


def hidden_loss(output: Tensor, views: Tensor, hidden: Tensor) -> Tensor:
    """Return the mean squared error over the hidden voxels of a batch (S3D, section 3, "Default parameters").

    Args:
        output: `(B, C, *spatial)`.
        views: `(B, C, *spatial)` targets, z-scored.
        hidden: `(B, 1, *spatial)` 1 where hidden.
    """
    squares = (output.float() - views).square() * hidden
    return squares.sum() / (hidden.sum() * views.shape[1]).clamp_min(1)
