"""Settings of backbones; torch-free."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from scanlore.config import Settings, validate
from scanlore.errors import nearest
from scanlore.registry import BACKBONES


def _check_name(name: str, family: str) -> str:
    if name not in BACKBONES:
        msg = f"no backbone of this name; there are {', '.join(BACKBONES)}{nearest(name, list(BACKBONES))}"
        raise ValueError(msg)
    if BACKBONES[name].family != family:
        usable = [other for other, entry in BACKBONES.items() if entry.family == family]
        msg = f"these are settings of {', '.join(usable)}"
        raise ValueError(msg)
    return name


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
        drop_path: Stochastic depth rate.
        drop_path_uniform: Whether it is the same in every block; otherwise it rises linearly from 0 to the last one.
        positions: `learned`, a position embedding added to the patches, or `rope`, queries and keys of patches rotated
            by their place (axial RoPE, Heo et al. 2024), which works on any grid.
        rope_base: Longest period of the rotations, relative to half a view (rope only).
        rope_rescale: In training, places are multiplied by a factor drawn from [1/r, r], the same for a whole group of
            views (rope only; 2 in DINOv3).
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
    drop_path_uniform: bool = True
    positions: Literal["learned", "rope"] = "learned"
    rope_base: float = Field(100.0, gt=0)
    rope_rescale: float = Field(1.0, ge=1)
    pos_interpolation: Literal["linear", "cubic"] = "linear"
    pos_offset: float = 0.0
    pos_antialias: bool = False

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        return _check_name(name, "vit")

    @model_validator(mode="after")
    def _fits(self) -> ViTSettings:
        if self.image_size % self.patch_size:
            msg = f"image_size {self.image_size} is no multiple of patch_size {self.patch_size}"
            raise ValueError(msg)
        if self.ndim == 3 and (self.pos_interpolation == "cubic" or self.pos_antialias):
            msg = "cubic or anti-aliased position embeddings exist for ndim 2 only"
            raise ValueError(msg)
        if self.positions == "learned" and self.rope_rescale > 1:
            msg = "rope_rescale is for rotary positions; set positions to rope"
            raise ValueError(msg)
        return self


class ResEncSettings(Settings):
    """A residual encoder U-Net for 2D or 3D views.

    Attributes:
        name: `resenc-tiny`, `resenc-s`, `resenc-m` or `resenc-l`.
        ndim: Spatial axes of its input, 2 or 3.
        in_channels: Input channels.
        out_channels: Channels of its decoder's output.
    """

    name: str
    ndim: Literal[2, 3] = 3
    in_channels: int = Field(1, ge=1)
    out_channels: int = Field(1, ge=1)

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        return _check_name(name, "resenc")

    @property
    def patch_size(self) -> int:
        """Total stride: edges of views must be multiples of it."""
        return int(2 ** (len(BACKBONES[self.name].features) - 1))


def _family(value: Any) -> str:
    """Return the family of the backbone that settings name; `vit` where none is known, whose check names them all."""
    name = value.get("name") if isinstance(value, Mapping) else getattr(value, "name", None)
    entry = BACKBONES.get(name) if isinstance(name, str) else None
    return entry.family if entry and entry.family in _FAMILIES else "vit"


_FAMILIES: dict[str, type[ViTSettings] | type[ResEncSettings]] = {"vit": ViTSettings, "resenc": ResEncSettings}

BackboneSettings = Annotated[
    Annotated[ViTSettings, Tag("vit")] | Annotated[ResEncSettings, Tag("resenc")], Discriminator(_family)
]
"""Settings of any backbone, chosen by the family of its `name`."""


def backbone_settings(data: Mapping[str, Any], where: str) -> ViTSettings | ResEncSettings:
    """Build the settings of a backbone from plain data, e.g. of `model.json`.

    Args:
        data: With a `name`.
        where: What to call the source in a message.

    Raises:
        ConfigError: One line per wrong key or value.
    """
    settings: ViTSettings | ResEncSettings = validate(_FAMILIES[_family(data)], data, where)
    return settings
