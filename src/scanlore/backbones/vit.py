"""One vision transformer for 2D and 3D, under both backbone contracts.

Sources: ViT (Dosovitskiy et al. 2021), DINOv2 (Oquab et al. 2023), registers (Darcet et al. 2024), 3DINO (Methods).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scanlore.backbones.features import Features, layer_indices
from scanlore.backbones.positions import resize_grid
from scanlore.backbones.rotary import Rotation, angles, rescale, rotation
from scanlore.backbones.settings import ViTSettings
from scanlore.backbones.vit_layers import Block, Packing, pack
from scanlore.errors import DataError
from scanlore.registry import BACKBONES

INIT_STD = 0.02
"""Of linear layers and positions. DINOv2's truncation at 2 lies a hundred times as far out: it never cuts anything."""


@dataclass(frozen=True)
class Tokens:
    """Normed output tokens of one view group.

    Attributes:
        cls: `(B, D)`.
        patches: `(B, N, D)`; `(B, K, D)` where only K patches were kept.
    """

    cls: Tensor
    patches: Tensor


class PatchEmbed(nn.Module):
    """Cuts a view into patches and projects each to a token; the last spatial axis runs fastest."""

    def __init__(self, settings: ViTSettings, dim: int) -> None:
        super().__init__()
        conv = nn.Conv3d if settings.ndim == 3 else nn.Conv2d
        self.proj = conv(settings.in_channels, dim, kernel_size=settings.patch_size, stride=settings.patch_size)

    def forward(self, x: Tensor) -> Tensor:
        """Return `(B, N, D)`."""
        # One matrix product over unfolded patches: convolution kernels are slow where stride equals kernel size
        patch, ndim = self.proj.kernel_size[0], x.ndim - 2
        grid = [edge // patch for edge in x.shape[2:]]
        cells = x.unflatten(2, (grid[0], patch))
        for axis in range(1, ndim):
            cells = cells.unflatten(2 + 2 * axis, (grid[axis], patch))
        order = [0, *range(2, 2 + 2 * ndim, 2), 1, *range(3, 3 + 2 * ndim, 2)]
        flat = cells.permute(order).flatten(1, ndim).flatten(2)
        return F.linear(flat, self.proj.weight.flatten(1), self.proj.bias)


class ViT(nn.Module):
    """A vision transformer.

    Args:
        settings: Its sizes and options; the name picks width, depth and heads from the registry.
    """

    def __init__(self, settings: ViTSettings) -> None:
        super().__init__()
        entry = BACKBONES[settings.name]
        self.settings = settings
        self.ndim, self.in_channels, self.patch_size = settings.ndim, settings.in_channels, settings.patch_size
        self.min_size = settings.patch_size
        self.embed_dim, self.num_layers = entry.embed_dim, entry.depth
        self.map_dims: tuple[int, ...] = (entry.embed_dim,)
        self.map_strides: tuple[int, ...] = (settings.patch_size,)
        dim, self.head_dim = entry.embed_dim, entry.embed_dim // entry.num_heads
        self.grid_edge = settings.image_size // settings.patch_size
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.has_learned_positions = settings.positions == "learned"
        if self.has_learned_positions:
            self.pos_embed = nn.Parameter(torch.zeros(1, 1 + self.grid_edge**settings.ndim, dim))
        self.mask_token = nn.Parameter(torch.zeros(1, dim))
        if settings.num_registers:
            self.register_tokens = nn.Parameter(torch.zeros(1, settings.num_registers, dim))
        self.patch_embed = PatchEmbed(settings, dim)
        self.blocks = nn.ModuleList(
            Block(dim, entry.num_heads, entry.ffn, settings.layer_scale, rate)
            for rate in _drop_rates(settings, entry.depth)
        )
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self._init_weights()

    def _init_weights(self) -> None:
        if self.has_learned_positions:
            nn.init.normal_(self.pos_embed, std=INIT_STD)
        nn.init.normal_(self.cls_token, std=1e-6)
        if self.settings.num_registers:
            nn.init.normal_(self.register_tokens, std=1e-6)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=INIT_STD)
                nn.init.zeros_(module.bias)

    # For methods

    def tokens(
        self,
        view_groups: list[Tensor],
        masks: list[Tensor | None] | None = None,
        keep: list[Tensor | None] | None = None,
    ) -> list[Tokens]:
        """Run groups of views of different sizes through the network in one pass.

        Args:
            view_groups: `(B_g, C, *spatial_g)` each.
            masks: For each group `(B_g, N_g)`, true where the mask token takes a patch's place; `None` for no masks.
            keep: For each group `(B_g, K_g)` indices of the patches that are computed; the others are left out.

        Returns:
            Tokens after the final norm, one per group.
        """
        tokens_TD, packing = self._pack(view_groups, masks, keep)
        for block in self.blocks:
            tokens_TD = block(tokens_TD, packing)
        return [self._tokens(group) for group in packing.split(self.norm(tokens_TD))]

    def _pack(
        self,
        view_groups: list[Tensor],
        masks: list[Tensor | None] | None = None,
        keep: list[Tensor | None] | None = None,
    ) -> tuple[Tensor, Packing]:
        """Return the input of the first block."""
        none: list[Tensor | None] = [None] * len(view_groups)
        embedded = [
            self.embed(views, mask, kept)
            for views, mask, kept in zip(view_groups, masks or none, keep or none, strict=True)
        ]
        if self.has_learned_positions:
            return pack(embedded)
        return pack(embedded, tuple(map(self._rotation, view_groups, keep or none)))

    def _rotation(self, x: Tensor, keep: Tensor | None) -> Rotation:
        grid = tuple(edge // self.patch_size for edge in x.shape[2:])
        turns = angles(grid, self.head_dim, self.settings.rope_base, x.device)
        if self.training and self.settings.rope_rescale > 1:
            turns = turns * rescale(self.settings.rope_rescale, x.device)
        return rotation(turns, self.num_prefix, keep)

    def _tokens(self, normed_BND: Tensor) -> Tokens:
        return Tokens(normed_BND[:, 0], normed_BND[:, self.num_prefix :])

    @property
    def num_prefix(self) -> int:
        """Tokens before the patches: [CLS] and registers."""
        return 1 + self.settings.num_registers

    def embed(self, x: Tensor, mask: Tensor | None = None, keep: Tensor | None = None) -> Tensor:
        """Return input tokens `(B, prefix + N, D)`, with their positions where these are learned.

        Args:
            x: `(B, C, *spatial)`.
            mask: `(B, N)`, true where the mask token takes a patch's place.
            keep: `(B, K)` indices of the patches to keep.

        Raises:
            DataError: The views do not fit this network.
        """
        self._check(x)
        patches: Tensor = self.patch_embed(x)
        if mask is not None:
            patches = torch.where(mask[..., None], self.mask_token.to(patches.dtype), patches)
        cls: Tensor = self.cls_token
        if self.has_learned_positions:
            position = self._positions(tuple(edge // self.patch_size for edge in x.shape[2:]))
            patches, cls = patches + position[:, 1:], cls + position[:, :1]
        if keep is not None:
            patches = patches.gather(1, keep[..., None].expand(-1, -1, patches.shape[-1]))
        cls = cls.expand(len(x), -1, -1)
        prefix = [cls, self.register_tokens.expand(len(x), -1, -1)] if self.settings.num_registers else [cls]
        return torch.cat([*prefix, patches], dim=1)

    def _check(self, x: Tensor) -> None:
        if x.ndim != self.ndim + 2 or x.shape[1] != self.in_channels:
            wanted = f"(B, {self.in_channels}, {', '.join('XYZ'[: self.ndim])})"
            raise DataError(f"views of shape {tuple(x.shape)} for a network that takes {wanted}")
        if any(edge % self.patch_size for edge in x.shape[2:]):
            fix = f"edges must be multiples of the patch size {self.patch_size}"
            raise DataError(f"views of {'x'.join(map(str, x.shape[2:]))} voxels cannot be cut into patches", fix=fix)

    def _positions(self, grid: tuple[int, ...]) -> Tensor:
        """Return the position embedding for a grid, resized where it is not the one it was made for."""
        stored = (self.grid_edge,) * self.ndim
        return self.pos_embed if grid == stored else resize_grid(self.pos_embed, stored, grid, self.settings)

    # For those who use features

    def forward_features(self, x: Tensor, layers: list[int] | int | None = None) -> Features:
        """Compute features after the final norm; see `scanlore.backbones.features.Backbone`.

        Args:
            x: `(B, C, *spatial)`, edges multiples of the patch size.
            layers: Block indices, or the number of last blocks; `None` for the last alone.
        """
        wanted = self.layer_indices(layers)
        grid = tuple(edge // self.patch_size for edge in x.shape[2:])
        found = {
            index: self._tokens(self.norm(tokens_BND))
            for index, tokens_BND in enumerate(self.steps(x, wanted[-1]))
            if index in wanted
        }
        maps = [found[index].patches.mT.unflatten(-1, grid) for index in wanted]
        return Features([found[index].cls for index in wanted], maps, norm="final")

    def layer_indices(self, layers: list[int] | int | None) -> list[int]:
        """Return block indices, shallow to deep."""
        return layer_indices(1 if layers is None else layers, self.num_layers)

    def steps(self, x: Tensor, last: int) -> Iterator[Tensor]:
        """Yield the un-normed tokens `(B, prefix + N, D)` behind each block up to block `last`."""
        tokens_TD, packing = self._pack([x])
        for block in self.blocks[: last + 1]:
            tokens_TD = block(tokens_TD, packing)
            yield packing.split(tokens_TD)[0]

    def attention(self, x: Tensor, layer: int = -1) -> Tensor:
        """Return attention weights `(B, heads, prefix + N, prefix + N)` of a block; the last by default."""
        index = range(self.num_layers)[layer]
        tokens_TD, packing = self._pack([x])
        for block in self.blocks[:index]:
            tokens_TD = block(tokens_TD, packing)
        block = cast(Block, self.blocks[index])
        return block.attn.weights(block.norm1(tokens_TD), packing)

    def layer_id(self, name: str) -> int:
        """Return the depth of a parameter for layer-wise decay: 0 for the input, i + 1 for block i, the norm on top."""
        if name.startswith("blocks."):
            return int(name.split(".")[1]) + 1
        return self.num_layers + 1 if name.startswith("norm.") else 0


def _drop_rates(settings: ViTSettings, depth: int) -> list[float]:
    if settings.drop_path_uniform:
        return [settings.drop_path] * depth
    return [settings.drop_path * index / max(1, depth - 1) for index in range(depth)]
