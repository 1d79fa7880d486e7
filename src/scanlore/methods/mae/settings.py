"""Settings of masked autoencoding; torch-free."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from scanlore.config import Settings


class MaeDecoderSettings(Settings):
    """The transformer that rebuilds a view from the tokens of its visible patches; a CNN uses its own decoder instead.

    Attributes:
        depth: Blocks.
        width: Of its tokens; a multiple of `heads`.
        heads: Attention heads.
    """

    depth: int = Field(2, ge=1)
    width: int = Field(512, ge=1)
    heads: int = Field(8, ge=1)


class MaeSettings(Settings):
    """Masked autoencoding: dense on a CNN (S3D, Table 1a), with hidden tokens left out on a ViT (He et al. 2022).

    Attributes:
        name: Of the method.
        decoder: For ViTs.
    """

    name: Literal["mae"] = "mae"
    decoder: MaeDecoderSettings = MaeDecoderSettings()
