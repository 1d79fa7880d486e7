"""Settings of views; torch-free."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, Tag, field_validator, model_validator

from scanlore.config import Settings, by_key
from scanlore.views.affine_settings import AffineSettings
from scanlore.views.scaled_settings import PositiveRange, Range, ScaledSettings, Share, ordered, partial

__all__ = [
    "AffineSettings",
    "CropSettings",
    "MaskSettings",
    "MultiCropSettings",
    "PhotometricSettings",
    "ViewSettings",
]


class CropSettings(Settings):
    """Crops of one kind.

    Attributes:
        number: Crops per scan.
        size: Edge of a crop in voxels.
        area: Share of the in-plane area, drawn uniformly.
        length: Share of the cross-slice length, drawn uniformly and apart from the area (volumes only).
    """

    number: int = Field(ge=0)
    size: int = Field(ge=1)
    area: Range
    length: Range = (1.0, 1.0)

    @field_validator("area", "length")
    @classmethod
    def _share(cls, value: Range) -> Range:
        if not 0 < value[0] <= value[1] <= 1:
            msg = "needs 0 < first <= second <= 1"
            raise ValueError(msg)
        return value


class PhotometricSettings(Settings):
    """Photometric transforms (3DINO's kinds and probabilities) and their bounds.

    The defaults bound what the public code lets run wild: sharpening that doubles the spread and Gibbs noise that may
    leave an empty scan; views are clipped to the range of the intensity scaling afterwards. `exact` restores the public
    values: alpha up to 30 and 1, invisible noise, no clipping.

    Attributes:
        enabled: Whether any is applied.
        exact: The public code's values instead of the bounded ones.
        gamma: Exponent on the view's own range.
        noise_std: Standard deviation of additive Gaussian noise.
        sharpen_alpha: Strength of sharpening.
        gibbs_alpha: Share of k-space radius cut away.
        smooth_sigma: Gaussian sigma per axis in voxels.
    """

    enabled: bool = True
    exact: bool = False
    gamma: PositiveRange = (0.5, 2.0)
    noise_std: tuple[NonNegativeFloat, NonNegativeFloat] = (0.0, 0.1)
    sharpen_alpha: tuple[NonNegativeFloat, NonNegativeFloat] = (0.5, 3.0)
    gibbs_alpha: tuple[Share, Share] = (0.0, 0.95)
    smooth_sigma: PositiveRange = (0.25, 1.5)

    _check = field_validator("gamma", "noise_std", "sharpen_alpha", "gibbs_alpha", "smooth_sigma")(ordered)

    @model_validator(mode="before")
    @classmethod
    def _exact_values(cls, data: object) -> object:
        if isinstance(data, dict) and data.get("exact"):
            public = {"noise_std": (0.0, 0.002), "sharpen_alpha": (10.0, 30.0), "gibbs_alpha": (0.0, 1.0)}
            return public | data
        return data


class MaskSettings(Settings):
    """Patch masks of the global crops (iBOT).

    Attributes:
        share: Share of the global crops that are masked.
        ratio: Smallest and largest share of masked patches; each masked crop draws in a stratum of its own.
    """

    share: float = Field(0.5, ge=0, le=1)
    ratio: Range = (0.2, 0.75)

    _check = field_validator("ratio")(partial)


class MultiCropSettings(ScaledSettings):
    """3DINO's and DINOv2's views: global and local random resized crops.

    Attributes:
        policy: Which plan this is.
        global_crops: Seen by teacher and student.
        local_crops: Seen by the student alone.
        aspect: In-plane aspect ratio of a crop, drawn log-uniformly.
        flip: Probability of a flip, per axis.
        quarter_turn: Probability of a quarter turn, per plane.
        photometric: Photometric transforms.
        masks: Patch masks.
    """

    policy: Literal["multi-crop"] = "multi-crop"
    global_crops: CropSettings = CropSettings(number=2, size=96, area=(0.48, 1.0), length=(0.5, 1.0))
    local_crops: CropSettings = CropSettings(number=8, size=48, area=(0.16, 0.48), length=(0.2, 0.5))
    aspect: PositiveRange = (0.9, 1 / 0.9)
    flip: float = Field(0.3, ge=0, le=1)
    quarter_turn: float = Field(0.3, ge=0, le=1)
    photometric: PhotometricSettings = PhotometricSettings()
    masks: MaskSettings = MaskSettings()

    _check = field_validator("aspect")(ordered)

    @property
    def clips(self) -> bool:
        """Whether views end within the range of their intensity scaling."""
        return not self.photometric.exact

    @model_validator(mode="after")
    def _pairs(self) -> MultiCropSettings:
        if self.global_crops.number != 2:
            msg = "global_crops.number must be 2: the objective pairs two global views"
            raise ValueError(msg)
        return self


ViewSettings = Annotated[
    Annotated[MultiCropSettings, Tag("multi-crop")] | Annotated[AffineSettings, Tag("affine")],
    by_key("policy", "multi-crop"),
]
"""The views of a run, told apart by `policy`."""
