"""Settings of S3D; torch-free."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from scanlore.config import Settings


class S3DSettings(Settings):
    """Sparse masked autoencoding of a U-Net (S3D, section 3, "Sparsification"); masks are a setting of the views.

    The four rows of Table 1a are all three false (dense), `sparse` alone, `sparse` and `mask_token`, all three.

    Attributes:
        name: Of the method.
        sparse: Hidden voxels take no part in any convolution, pooling or norm of the encoder.
        mask_token: Hidden positions of every map get a learned token before the decoder.
        densify: Every map but the finest then passes a 3x3x3 convolution.
    """

    name: Literal["s3d"] = "s3d"
    sparse: bool = True
    mask_token: bool = True
    densify: bool = True

    @model_validator(mode="after")
    def _one_after_the_other(self) -> S3DSettings:
        if (self.mask_token or self.densify) and not self.sparse:
            msg = "mask_token and densify fill what sparse leaves empty: they need sparse: true"
            raise ValueError(msg)
        return self
