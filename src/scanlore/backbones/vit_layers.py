"""The parts of a vision transformer, working on packed tokens.

Tokens of view groups of different sizes travel as one `(T, D)` matrix, so that every linear layer runs once; attention
runs per group on its regular `(B, N, D)` shape. `Packing` says where each group lies. Parameter names are DINOv2's.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scanlore.backbones.rotary import Rotation

SMALL_VIEW = 512
"""Tokens of a view up to which attention on a CPU is two plain matrix products."""


@dataclass(frozen=True)
class Packing:
    """Where groups lie in a packed token matrix, and how their tokens turn.

    Attributes:
        groups: `(views, tokens per view)` of each, in order.
        rotations: Of each group, where positions are rotary.
    """

    groups: tuple[tuple[int, int], ...]
    rotations: tuple[Rotation, ...] = ()

    @property
    def lengths(self) -> list[int]:
        """Tokens of each group."""
        return [views * tokens for views, tokens in self.groups]

    def split(self, tokens_TD: Tensor) -> list[Tensor]:
        """Return each group as `(B, N, D)`."""
        parts = tokens_TD.split(self.lengths)
        return [part.unflatten(0, group) for part, group in zip(parts, self.groups, strict=True)]


def pack(groups_BND: list[Tensor], rotations: tuple[Rotation, ...] = ()) -> tuple[Tensor, Packing]:
    """Pack groups of tokens into one matrix."""
    packing = Packing(tuple((int(group.shape[0]), int(group.shape[1])) for group in groups_BND), rotations)
    if len(groups_BND) == 1:
        return groups_BND[0].flatten(0, 1), packing
    return torch.cat([group.flatten(0, 1) for group in groups_BND]), packing


class Attention(nn.Module):
    """Multi-head self-attention within each view."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, dim * 3)
        self.proj = nn.Linear(dim, dim)

    def forward(self, tokens_TD: Tensor, packing: Packing) -> Tensor:
        """Return attended tokens, `(T, D)`."""
        parts = packing.split(self.qkv(tokens_TD))
        rotations = packing.rotations or (None,) * len(parts)
        attended = [self._attend(part, rotation) for part, rotation in zip(parts, rotations, strict=True)]
        out: Tensor = self.proj(torch.cat(attended))
        return out

    def _attend(self, qkv_BN3D: Tensor, rotation: Rotation | None) -> Tensor:
        q, k, v = self._heads(qkv_BN3D, rotation)
        attend = _attend_by_products if _is_small_bf16_on_cpu(q) else F.scaled_dot_product_attention
        attended_BHNd: Tensor = attend(q, k, v)
        return attended_BHNd.transpose(1, 2).flatten(2).flatten(0, 1)

    def _heads(self, qkv_BN3D: Tensor, rotation: Rotation | None) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = qkv_BN3D.unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        return (q, k, v) if rotation is None else (rotation(q), rotation(k), v)

    def weights(self, tokens_TD: Tensor, packing: Packing) -> Tensor:
        """Return attention weights `(B, heads, N, N)` of the one group of tokens; each row sums to one."""
        (part,) = packing.split(self.qkv(tokens_TD))
        q, k, _ = self._heads(part, packing.rotations[0] if packing.rotations else None)
        scores_BHNN: Tensor = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5
        return scores_BHNN.softmax(-1)


def _is_small_bf16_on_cpu(q_BHNd: Tensor) -> bool:
    """Where the fused kernel is two to three times slower than plain matrix products, and scores take little memory."""
    return q_BHNd.device.type == "cpu" and q_BHNd.dtype == torch.bfloat16 and q_BHNd.shape[2] <= SMALL_VIEW


def _attend_by_products(q_BHNd: Tensor, k_BHNd: Tensor, v_BHNd: Tensor) -> Tensor:
    q, k, v = (part.flatten(0, 1) for part in (q_BHNd, k_BHNd, v_BHNd))
    # Scaled inside the product: one pass over the scores less
    scores = torch.baddbmm(q.new_empty(()), q, k.mT, beta=0, alpha=q.shape[-1] ** -0.5)
    attended_BHNd: Tensor = torch.bmm(scores.softmax(-1), v).unflatten(0, q_BHNd.shape[:2])
    return attended_BHNd


class Mlp(nn.Module):
    """Two linear layers with GELU between them."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Return `(T, D)`."""
        out: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return out


class SwiGlu(nn.Module):
    """Gated feed-forward layer; hidden width is two thirds of an MLP's, rounded up to a multiple of 8."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        width = (int(hidden * 2 / 3) + 7) // 8 * 8
        self.w12 = nn.Linear(dim, 2 * width)
        self.w3 = nn.Linear(width, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Return `(T, D)`."""
        gate, value = self.w12(x).chunk(2, dim=-1)
        out: Tensor = self.w3(F.silu(gate) * value)
        return out


class LayerScale(nn.Module):
    """A learned factor per channel on a residual branch (Touvron et al. 2021)."""

    def __init__(self, dim: int, initial: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((dim,), initial))

    def forward(self, x: Tensor) -> Tensor:
        """Scale the last axis."""
        return x * self.gamma


class Block(nn.Module):
    """Pre-norm transformer block.

    Args:
        dim: Width.
        num_heads: Attention heads.
        ffn: `mlp` or `swiglu`.
        layer_scale: Initial LayerScale; 0 for none.
        drop_path: Share of views whose residual is left out in training. The others are gathered, computed alone and
            scaled up (DINOv2, efficient stochastic depth), so that what is dropped costs nothing.
    """

    def __init__(self, dim: int, num_heads: int, ffn: str, layer_scale: float, drop_path: float) -> None:
        super().__init__()
        self.drop_path = drop_path
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = Attention(dim, num_heads)
        self.ls1 = LayerScale(dim, layer_scale) if layer_scale else nn.Identity()
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = (SwiGlu if ffn == "swiglu" else Mlp)(dim, dim * 4)
        self.ls2 = LayerScale(dim, layer_scale) if layer_scale else nn.Identity()

    def forward(self, tokens_TD: Tensor, packing: Packing) -> Tensor:
        """Return `(T, D)`."""
        tokens_TD = self._residual(tokens_TD, packing, attend=True)
        return self._residual(tokens_TD, packing, attend=False)

    def _branch(self, tokens_TD: Tensor, packing: Packing, attend: bool) -> Tensor:
        if attend:
            out: Tensor = self.ls1(self.attn(self.norm1(tokens_TD), packing))
        else:
            out = self.ls2(self.mlp(self.norm2(tokens_TD)))
        return out

    def _residual(self, tokens_TD: Tensor, packing: Packing, attend: bool) -> Tensor:
        if not (self.training and self.drop_path):
            return tokens_TD + self._branch(tokens_TD, packing, attend)
        rows, scale, kept = _draw_views(packing, self.drop_path, tokens_TD.device)
        branch = self._branch(tokens_TD.index_select(0, rows), kept, attend)
        return tokens_TD.index_add(0, rows, (branch * scale).to(tokens_TD.dtype))


def _draw_views(packing: Packing, rate: float, device: torch.device) -> tuple[Tensor, Tensor, Packing]:
    """Draw the views of each group that are computed; returns their token rows, their scale and their packing."""
    rows, scales, groups, rotations, offset = [], [], [], [], 0
    for index, (views, tokens) in enumerate(packing.groups):
        count = max(1, int(views * (1 - rate)))
        chosen = torch.randperm(views, device=device)[:count]
        rotations += [rotation.of_views(chosen) for rotation in packing.rotations[index : index + 1]]
        rows.append((chosen[:, None] * tokens + torch.arange(tokens, device=device) + offset).flatten())
        scales.append(torch.full((count * tokens, 1), views / count, device=device))
        groups.append((count, tokens))
        offset += views * tokens
    return torch.cat(rows), torch.cat(scales), Packing(tuple(groups), tuple(rotations))
