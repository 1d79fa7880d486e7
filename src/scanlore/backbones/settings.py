"""Settings of backbones; torch-free."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from scanlore.config import Settings
from scanlore.errors import nearest
from scanlore.registry import BACKBONES


class ViTSettings(Settings):
    """A vision transformer for 2D or 3D views.

    Attributes:
        name: `vit-tiny`, `vit-small`, `vit-base`, `vit-large` or `vit-giant`.
        ndim: Spatial axes of its input, 2 or 3.
        patch_size: Edge of a patch in voxels.
        image_size: Edge of the views its position embedding is made for, in voxels.
        in_channels: Input channels.
        num_registers: Register tokens (Darcet et al. 2024).
        layer_scale: Initial LayerScale; 0 leaves it out.
        drop_path: Stochastic depth rate, the same in every block.
        pos_interpolation: How the position embedding is resized: linear in 3DINO, cubic (2D only) in DINOv2.
        pos_offset: Added to the target grid before the scale is computed; 0.1 in weights published without registers.
        pos_antialias: Whether resizing the position embedding to a smaller grid is anti-aliased (2D only).
    """

    name: str
    ndim: Literal[2, 3] = 3
    patch_size: int = Field(16, ge=1)
    image_size: int = Field(96, ge=1)
    in_channels: int = Field(1, ge=1)
    num_registers: int = Field(0, ge=0)
    layer_scale: float = Field(1e-5, ge=0)
    drop_path: float = Field(0.0, ge=0, lt=1)
    pos_interpolation: Literal["linear", "cubic"] = "linear"
    pos_offset: float = 0.0
    pos_antialias: bool = False

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in BACKBONES:
            msg = f"no backbone of this name; there are {', '.join(BACKBONES)}{nearest(name, list(BACKBONES))}"
            raise ValueError(msg)
        return name

    @model_validator(mode="after")
    def _fits(self) -> ViTSettings:
        if self.image_size % self.patch_size:
            msg = f"image_size {self.image_size} is no multiple of patch_size {self.patch_size}"
            raise ValueError(msg)
        if self.ndim == 3 and (self.pos_interpolation == "cubic" or self.pos_antialias):
            msg = "cubic or anti-aliased position embeddings exist for ndim 2 only"
            raise ValueError(msg)
        return self
