"""Rotary positions along the axes of an image or a volume.

Each pair of channels of a head turns by an angle in proportion to the place of its patch along one axis, so that the
product of a query and a key depends on how far apart they lie, on any grid. Sources: RoPE (Su et al. 2021), its axial
form (Heo et al. 2024), places in [-1, 1] and their rescaling in training (DINOv3, Simeoni et al. 2025).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


class Rotation:
    """How the tokens of a view group turn.

    No dataclass: FSDP2 casts the tensors in those to the precision of the parameters.

    Args:
        cos: `(1, 1, N, d)` float32, or `(B, 1, N, d)` where the views keep different patches.
        sin: As `cos`.
    """

    def __init__(self, cos: Tensor, sin: Tensor) -> None:
        self.cos, self.sin = cos, sin

    def of_views(self, chosen: Tensor) -> Rotation:
        """Return the rotation of the views with these indices."""
        if len(self.cos) == 1:
            return self
        return Rotation(self.cos.index_select(0, chosen), self.sin.index_select(0, chosen))

    def __call__(self, x_BHNd: Tensor) -> Tensor:
        """Turn queries or keys; computed in float32, returned in their own precision."""
        x = x_BHNd.float()
        first, second = x.chunk(2, dim=-1)
        return (x * self.cos + torch.cat([-second, first], dim=-1) * self.sin).to(x_BHNd.dtype)


def angles(grid: tuple[int, ...], head_dim: int, base: float, device: torch.device) -> Tensor:
    """Return the angle of each pair of channels for each patch, `(N, head_dim / 2)` float32; the last axis fastest.

    Patch i of n along an axis lies at (2 i + 1) / n - 1. Every axis turns `head_dim // (2 * axes)` pairs, pair k of m
    with the period `base ** (k / m)`; channels that are left over do not turn.

    Args:
        grid: Patches along each axis.
        head_dim: Channels of a head, even.
        base: Longest period.
        device: Where to.
    """
    num_pairs = head_dim // (2 * len(grid))
    exponents = torch.arange(num_pairs, device=device, dtype=torch.float32) / max(1, num_pairs)
    rates = 2 * math.pi * torch.pow(base, -exponents)
    places = [(2 * torch.arange(n, device=device, dtype=torch.float32) + 1) / n - 1 for n in grid]
    lattice = torch.stack(torch.meshgrid(*places, indexing="ij"), dim=-1).flatten(0, -2)
    turning = (lattice[..., None] * rates).flatten(1)
    return F.pad(turning, (0, head_dim // 2 - turning.shape[-1]))


def rescale(limit: float, device: torch.device) -> Tensor:
    """Draw a factor from the log-uniform distribution on [1 / limit, limit], `()`."""
    return torch.exp((2 * torch.rand((), device=device) - 1) * math.log(limit))


def rotation(angles_Nd: Tensor, num_prefix: int, keep: Tensor | None = None) -> Rotation:
    """Return the rotation of a view group.

    Args:
        angles_Nd: Of all patches of a view.
        num_prefix: Tokens before the patches, which do not turn.
        keep: `(B, K)` indices of the patches each view keeps.
    """
    patches = angles_Nd[None] if keep is None else angles_Nd[keep]
    whole = F.pad(patches, (0, 0, num_prefix, 0))[:, None].repeat(1, 1, 1, 2)
    return Rotation(whole.cos(), whole.sin())
