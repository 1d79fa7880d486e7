"""Masked autoencoding: the dense baseline of S3D on a CNN, and He et al. 2022 on a ViT, hidden tokens left out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from scanlore.backbones.resenc import ResEnc
from scanlore.backbones.vit import ViT
from scanlore.backbones.vit_layers import Block, pack
from scanlore.methods.contract import Observed, ParamRule, Progress, WithoutHeads, has_decay
from scanlore.methods.mae.settings import MaeDecoderSettings, MaeSettings
from scanlore.methods.masked import Reconstruction, hidden_loss, in_voxels, mask_grid, views_of
from scanlore.methods.s3d.method import S3DMethod
from scanlore.methods.s3d.settings import S3DSettings
from scanlore.views.loader import Batch

INIT_STD = 0.02


class TokenDecoder(nn.Module):
    """Rebuilds the patches of a view from the tokens of its visible ones (He et al. 2022, section 3).

    Args:
        backbone: Whose tokens it reads; sizes come from it.
        settings: Depth and width.
    """

    def __init__(self, backbone: ViT, settings: MaeDecoderSettings) -> None:
        super().__init__()
        num_patches = backbone.grid_edge**backbone.ndim
        self.embed = nn.Linear(backbone.embed_dim, settings.width)
        self.mask_token = nn.Parameter(torch.empty(1, 1, settings.width))
        self.pos_embed = nn.Parameter(torch.empty(1, 1 + num_patches, settings.width))
        self.blocks = nn.ModuleList(
            Block(settings.width, settings.heads, "mlp", layer_scale=0.0, drop_path=0.0) for _ in range(settings.depth)
        )
        self.norm = nn.LayerNorm(settings.width, eps=1e-6)
        self.pred = nn.Linear(settings.width, backbone.in_channels * backbone.patch_size**backbone.ndim)
        for parameter in (self.mask_token, self.pos_embed):
            nn.init.trunc_normal_(parameter, std=INIT_STD)

    def forward(self, cls_BD: Tensor, patches_BKD: Tensor, keep_BK: Tensor) -> Tensor:
        """Return the voxels of every patch, `(B, N, C * patch voxels)`.

        Args:
            cls_BD: [CLS] tokens.
            patches_BKD: Tokens of the visible patches.
            keep_BK: Where they lie among the N patches.
        """
        visible_BKD = self.embed(patches_BKD)
        num_patches = self.pos_embed.shape[1] - 1
        all_BND = self.mask_token.to(visible_BKD.dtype).expand(len(visible_BKD), num_patches, -1)
        all_BND = all_BND.scatter(1, keep_BK[..., None].expand_as(visible_BKD), visible_BKD)
        tokens_BND = torch.cat([self.embed(cls_BD)[:, None], all_BND], dim=1) + self.pos_embed
        tokens_TD, packing = pack([tokens_BND])
        for block in self.blocks:
            tokens_TD = block(tokens_TD, packing)
        (decoded_BND,) = packing.split(self.norm(tokens_TD))
        voxels: Tensor = self.pred(decoded_BND[:, 1:])
        return voxels


class ViTMae(WithoutHeads, nn.Module):
    """A ViT that sees the visible patches of a view alone, and a decoder that rebuilds the others.

    Args:
        backbone: A vision transformer.
        settings: Of the decoder.
    """

    def __init__(self, backbone: ViT, settings: MaeSettings) -> None:
        super().__init__()
        self.backbone, self.observed = backbone, Observed()
        # Patches are left out, none is replaced: the mask token of the backbone has no part in this
        backbone.mask_token.requires_grad_(False)
        self.decoder = TokenDecoder(backbone, settings.decoder)

    def as_module(self) -> nn.Module:
        """Return the method itself."""
        return self

    def forward(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """Return the loss term `reconstruction`.

        Args:
            batch: With the group `views`, and masks that hide as many patches of every view.
            progress: Not used.
        """
        del progress
        seen = self._rebuild(batch)
        return {"reconstruction": hidden_loss(seen.output, seen.views, seen.hidden)}

    def _rebuild(self, batch: Batch) -> Reconstruction:
        views, hidden_BN = views_of(batch), batch.masks
        num_kept = hidden_BN.shape[1] - len(batch.places) // len(views)
        keep_BK = hidden_BN.byte().argsort(dim=1, stable=True)[:, :num_kept]
        (tokens,) = self.backbone.tokens([views], keep=[keep_BK])
        patches_BNV = self.decoder(tokens.cls, tokens.patches, keep_BK)
        grid = mask_grid(tuple(views.shape[2:]), hidden_BN.shape[1])
        hidden = in_voxels(hidden_BN.unflatten(1, grid)[:, None], views)
        return Reconstruction(views, hidden, unpatch(patches_BNV, grid, self.backbone.patch_size))

    @torch.no_grad()
    def reconstruct(self, batch: Batch) -> Reconstruction:
        """Return the reconstruction of a batch on this device, for a look."""
        return self._rebuild(batch)

    def after_step(self, progress: Progress) -> None:
        """Do nothing: there is no teacher."""

    def param_rules(self) -> list[ParamRule]:
        """Return one rule for every parameter; norms and biases do not decay."""
        return [
            ParamRule(name, part="network", decay=has_decay(name))
            for name, parameter in self.named_parameters()
            if parameter.requires_grad
        ]

    def exported(self) -> ViT:
        """Return the encoder."""
        return self.backbone


def unpatch(patches_BNV: Tensor, grid: tuple[int, ...], patch: int) -> Tensor:
    """Return the views `(B, C, *spatial)` that patches `(B, N, C * patch voxels)` make up, last axis fastest."""
    ndim = len(grid)
    cells = patches_BNV.unflatten(1, grid).unflatten(-1, (-1, *(patch,) * ndim))
    order = [0, 1 + ndim, *(axis for first in range(1, 1 + ndim) for axis in (first, first + 1 + ndim))]
    views: Tensor = cells.permute(order)
    for axis in range(ndim):
        views = views.flatten(2 + axis, 3 + axis)
    return views


def build(backbone: ViT | ResEnc, settings: MaeSettings) -> ViTMae | S3DMethod:
    """Build the method around a backbone."""
    if isinstance(backbone, ViT):
        return ViTMae(backbone, settings)
    return S3DMethod(backbone, S3DSettings(sparse=False, mask_token=False, densify=False))
