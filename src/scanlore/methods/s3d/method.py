"""S3D: a U-Net rebuilds hidden blocks of a view from an encoder in which they take no part.

S3D (Wald et al. 2024), section 3 "Sparsification", after SparK (Tian et al. 2023). The encoder is made sparse by masked
norms alone: every convolution feeds one, pooling windows align with the blocks, and the view is multiplied by its mask.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from scanlore.backbones.conv import Conv3d
from scanlore.backbones.masked_norm import MaskedInstanceNorm2d, MaskedInstanceNorm3d
from scanlore.backbones.resenc import ResEnc, visible_at
from scanlore.methods.contract import Observed, ParamRule, Progress, WithoutHeads
from scanlore.methods.masked import Reconstruction, hidden_blocks, hidden_loss, in_voxels, views_of
from scanlore.methods.s3d.settings import S3DSettings
from scanlore.views.loader import Batch

TOKEN_STD = 0.02


class Densify(nn.Module):
    """Fills the hidden positions of one map and prepares it for the decoder.

    Args:
        dim: Channels of the map.
        ndim: Spatial axes.
        token: Whether hidden positions get a learned token, instead of zeros.
        conv: Whether the map is normed over what is visible before, and passes a 3x3x3 convolution after.
    """

    def __init__(self, dim: int, ndim: int, token: bool, conv: bool) -> None:
        super().__init__()
        if token:
            self.token = nn.Parameter(torch.empty(1, dim, *(1,) * ndim))
            nn.init.trunc_normal_(self.token, std=TOKEN_STD, a=-TOKEN_STD, b=TOKEN_STD)
        if conv:
            self.norm = (MaskedInstanceNorm3d if ndim == 3 else MaskedInstanceNorm2d)(dim)
            self.conv = (Conv3d if ndim == 3 else nn.Conv2d)(dim, dim, kernel_size=3, padding=1)

    def forward(self, values: Tensor, visible: Tensor) -> Tensor:
        """Return the filled map.

        Args:
            values: `(B, C, *grid)`, zero where hidden.
            visible: `(B, 1, *grid)`, 1 where visible.
        """
        if hasattr(self, "norm"):
            self.norm.visible = visible
            values = self.norm(values)
        if hasattr(self, "token"):
            values = torch.where(visible.bool(), values, self.token.to(values.dtype))
        return self.conv(values) if hasattr(self, "conv") else values


class S3DMethod(WithoutHeads, nn.Module):
    """A U-Net with what its decoder needs to rebuild hidden blocks.

    Args:
        backbone: A CNN with a decoder.
        settings: Of the objective; all three parts off is a dense masked autoencoder.
    """

    def __init__(self, backbone: ResEnc, settings: S3DSettings) -> None:
        super().__init__()
        self.backbone, self.settings, self.observed = backbone, settings, Observed()
        # The finest map has no convolution of its own: it would cost as much as a stage of the decoder
        self.densify = nn.ModuleList(
            Densify(dim, backbone.ndim, settings.mask_token, settings.densify and level > 0)
            for level, dim in enumerate(backbone.map_dims)
        )

    def as_module(self) -> nn.Module:
        """Return the method itself."""
        return self

    def forward(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """Return the loss term `reconstruction`.

        Args:
            batch: With the group `views`, and masks of their blocks.
            progress: Not used.
        """
        del progress
        seen = self._rebuild(batch)
        return {"reconstruction": hidden_loss(seen.output, seen.views, seen.hidden)}

    def _rebuild(self, batch: Batch) -> Reconstruction:
        views, visible = views_of(batch), ~hidden_blocks(batch)
        if self.settings.sparse:
            maps = self.backbone.maps(views, visible)
            filled = [densify(m, visible_at(visible, m)) for densify, m in zip(self.densify, maps, strict=True)]
        else:
            filled = self.backbone.maps(views * in_voxels(visible, views))
        return Reconstruction(views, in_voxels(~visible, views), self.backbone.decode(filled))

    @torch.no_grad()
    def reconstruct(self, batch: Batch) -> Reconstruction:
        """Return the reconstruction of a batch on this device, for a look."""
        return self._rebuild(batch)

    def after_step(self, progress: Progress) -> None:
        """Do nothing: there is no teacher."""

    def param_rules(self) -> list[ParamRule]:
        """Return the same rule for all; nnU-Net decays every parameter."""
        return [ParamRule(name, part="network") for name, p in self.named_parameters() if p.requires_grad]

    def exported(self) -> ResEnc:
        """Return the U-Net, encoder and decoder."""
        return self.backbone


def build(backbone: ResEnc, settings: S3DSettings) -> S3DMethod:
    """Build the method around a backbone."""
    return S3DMethod(backbone, settings)
