"""The residual encoder U-Net of nnU-Net, under both backbone contracts; dense or sparse.

Sources: nnU-Net revisited (Isensee et al. 2024), S3D (Wald et al. 2024). Layers and state-dict names are those of
dynamic-network-architectures, of which nnU-Net and OpenMind checkpoints are made.
"""

from __future__ import annotations

import torch.nn.functional as F
from dynamic_network_architectures.architectures.unet import ResidualEncoderUNet
from torch import Tensor, nn

from scanlore.backbones.conv import Conv3d
from scanlore.backbones.features import Features, layer_indices
from scanlore.backbones.masked_norm import MaskedInstanceNorm2d, MaskedInstanceNorm3d
from scanlore.backbones.settings import ResEncSettings
from scanlore.errors import DataError
from scanlore.registry import BACKBONES


class ResEnc(ResidualEncoderUNet):  # type: ignore[misc]
    """A residual encoder U-Net with nnU-Net's initial weights: He, and nothing from the residual branches.

    Args:
        settings: What to build.

    Attributes:
        settings: As given.
        ndim: See `scanlore.backbones.features.Backbone`, as the others; `patch_size` is the total stride.
    """

    def __init__(self, settings: ResEncSettings) -> None:
        entry = BACKBONES[settings.name]
        num_stages = len(entry.features)
        super().__init__(
            input_channels=settings.in_channels,
            n_stages=num_stages,
            features_per_stage=entry.features,
            conv_op=nn.Conv3d if settings.ndim == 3 else nn.Conv2d,
            kernel_sizes=3,
            strides=(1, *(2,) * (num_stages - 1)),
            n_blocks_per_stage=entry.blocks,
            num_classes=settings.out_channels,
            n_conv_per_stage_decoder=(1,) * (num_stages - 1),
            conv_bias=True,
            norm_op=MaskedInstanceNorm3d if settings.ndim == 3 else MaskedInstanceNorm2d,
            norm_op_kwargs={"eps": 1e-5, "affine": True},
            nonlin=nn.LeakyReLU,
            nonlin_kwargs={"inplace": True},
        )
        self.settings = settings
        self.ndim: int = settings.ndim
        self.in_channels = settings.in_channels
        self.map_dims, self.embed_dim, self.num_layers = entry.features, entry.features[-1], num_stages
        self.map_strides = tuple(2**stage for stage in range(num_stages))
        self.patch_size, self.min_size = self.map_strides[-1], 2 * self.map_strides[-1]
        self.apply(self.initialize)
        for module in self.modules():
            if type(module) is nn.Conv3d:  # its class alone, as the parent compares the class it is given
                module.__class__ = Conv3d
        # The heads of deep supervision take no part; they stay for the sake of the names
        self.decoder.seg_layers[:-1].requires_grad_(False)

    # For methods

    def maps(self, x: Tensor, visible: Tensor | None = None) -> list[Tensor]:
        """Run the encoder, on all voxels or on the visible ones alone.

        Masking the view and every norm equals masking every convolution, pooling and norm: each convolution feeds a
        norm, and a pooled cell is zero where all below it are. The masks stay set until the next call.

        Args:
            x: `(B, C, *spatial)`, edges multiples of `patch_size`.
            visible: `(B, 1, *grid)`, true or 1 where a block is visible; the grid divides the view.

        Returns:
            `(B, map_dims[i], *spatial / map_strides[i])` of every stage, fine to coarse; zero where hidden.

        Raises:
            DataError: The view or the mask does not fit.
        """
        self._check(x, visible)
        self._set_masks(x, visible)
        if visible is not None:
            x = x * visible_at(visible, x).to(x.dtype)
        maps: list[Tensor] = self.encoder(x)
        return maps

    def _set_masks(self, x: Tensor, visible: Tensor | None) -> None:
        parts = [(0, self.encoder.stem), *enumerate(self.encoder.stages)]
        for stage, part in parts:
            grid = tuple(edge // self.map_strides[stage] for edge in x.shape[2:])
            mask = None if visible is None else _at(visible, grid)
            for layer in part.modules():
                if isinstance(layer, MaskedInstanceNorm2d | MaskedInstanceNorm3d):
                    layer.visible = mask

    def decode(self, maps: list[Tensor]) -> Tensor:
        """Return the decoder's output `(B, out_channels, *spatial)` from the maps of every stage, fine to coarse."""
        out: Tensor = self.decoder(maps)
        return out

    def forward(self, x: Tensor) -> Tensor:
        """Return `(B, out_channels, *spatial)`."""
        return self.decode(self.maps(x))

    def _check(self, x: Tensor, visible: Tensor | None) -> None:
        if x.ndim != self.ndim + 2 or x.shape[1] != self.in_channels:
            wanted = f"(B, {self.in_channels}, {', '.join('XYZ'[: self.ndim])})"
            raise DataError(f"views of shape {tuple(x.shape)} for a network that takes {wanted}")
        edges, stride = x.shape[2:], self.patch_size
        if any(edge % stride for edge in edges) or all(edge == stride for edge in edges):
            fits = "x".join(str(max(self.min_size, round(edge / stride) * stride)) for edge in edges)
            fix = f"edges must be multiples of {stride}, e.g. {fits}"
            raise DataError(f"views of {'x'.join(map(str, edges))} voxels cannot be halved to its last stage", fix=fix)
        if visible is not None and any(edge % cells for edge, cells in zip(edges, visible.shape[2:], strict=True)):
            grid = "x".join(map(str, visible.shape[2:]))
            raise DataError(f"a mask of {grid} blocks does not divide views of {'x'.join(map(str, edges))} voxels")

    # For those who use features

    def forward_features(self, x: Tensor, layers: list[int] | int | None = None) -> Features:
        """Compute the maps of stages and their means; see `scanlore.backbones.features.Backbone`.

        Args:
            x: `(B, C, *spatial)`, edges multiples of `patch_size`.
            layers: Stage indices, or the number of last stages; `None` for all.
        """
        wanted = layer_indices(self.num_layers if layers is None else layers, self.num_layers)
        maps = self.maps(x)
        chosen = [maps[index] for index in wanted]
        return Features([m.flatten(2).mean(-1) for m in chosen], chosen, norm="none")


def visible_at(visible: Tensor, like: Tensor) -> Tensor:
    """Return a mask of blocks at the resolution of a map.

    Args:
        visible: `(B, 1, *grid)`, true or 1 where a block is visible.
        like: `(B, C, *spatial)`, of any resolution.

    Returns:
        `(B, 1, *spatial)` float32: 1 where any block that a cell touches is visible, else 0.
    """
    return _at(visible, tuple(like.shape[2:]))


def _at(visible: Tensor, grid: tuple[int, ...]) -> Tensor:
    # Repeats cells where the grid is finer, takes their largest where it is coarser
    pool = F.adaptive_max_pool3d if len(grid) == 3 else F.adaptive_max_pool2d
    return pool(visible.float(), grid)
