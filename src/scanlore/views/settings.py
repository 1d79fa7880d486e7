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
    "ResolutionSettings",
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


class ResolutionSettings(Settings):
    """Sizes of the crops of some batches, in place of those of the views.

    Attributes:
        share: Share of the batches that have them.
        global_size: Edge of a global crop in voxels.
        local_size: Edge of a local crop.
        gram_size: Edge of a global crop as the Gram teacher sees it.
    """

    share: float = Field(gt=0, le=1)
    global_size: int = Field(ge=1)
    local_size: int = Field(ge=1)
    gram_size: int | None = Field(None, ge=1)


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
        gram_size: Edge in voxels at which the global crops are drawn once more for the Gram teacher: the same maps on a
            finer grid, without photometric transforms. None draws none.
        resolutions: Sizes that batches take turns in, drawn by their shares. None leaves all batches at the sizes
            above, which are otherwise only those at which the model is used afterwards.
    """

    policy: Literal["multi-crop"] = "multi-crop"
    global_crops: CropSettings = CropSettings(number=2, size=96, area=(0.48, 1.0), length=(0.5, 1.0))
    local_crops: CropSettings = CropSettings(number=8, size=48, area=(0.16, 0.48), length=(0.2, 0.5))
    aspect: PositiveRange = (0.9, 1 / 0.9)
    flip: float = Field(0.3, ge=0, le=1)
    quarter_turn: float = Field(0.3, ge=0, le=1)
    photometric: PhotometricSettings = PhotometricSettings()
    masks: MaskSettings = MaskSettings()
    gram_size: int | None = Field(None, ge=1)
    resolutions: tuple[ResolutionSettings, ...] = ()

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

    @model_validator(mode="after")
    def _resolutions_agree(self) -> MultiCropSettings:
        shares = sum(resolution.share for resolution in self.resolutions)
        if self.resolutions and abs(shares - 1) > 1e-6:
            msg = f"the shares of resolutions sum to {shares:g}, not to 1"
            raise ValueError(msg)
        plans = [self, *self.each_resolution()]
        for settings in plans:
            if settings.gram_size is not None and settings.gram_size < settings.global_crops.size:
                msg = f"gram_size {settings.gram_size} is below the size {settings.global_crops.size} of global crops"
                raise ValueError(msg)
        if len({settings.gram_size is None for settings in plans}) > 1:
            msg = "gram_size is needed in the views and in all of their resolutions, or nowhere"
            raise ValueError(msg)
        return self

    def at(self, resolution: ResolutionSettings) -> MultiCropSettings:
        """Return the same views with the sizes of a resolution."""
        sizes = {"global_crops": resolution.global_size, "local_crops": resolution.local_size}
        crops = {kind: getattr(self, kind).model_copy(update={"size": size}) for kind, size in sizes.items()}
        return self.model_copy(update={**crops, "gram_size": resolution.gram_size, "resolutions": ()})

    def each_resolution(self) -> list[MultiCropSettings]:
        """Return the views as they are at each of the resolutions; themselves alone where there are none."""
        return [self.at(resolution) for resolution in self.resolutions] or [self]

    def crop_sizes(self) -> dict[str, int]:
        """Return every size of a crop in voxels by its dotted key."""
        sizes: dict[str, int | None] = {"global_crops.size": self.global_crops.size}
        sizes |= {"local_crops.size": self.local_crops.size, "gram_size": self.gram_size}
        for number, resolution in enumerate(self.resolutions):
            for kind in ("global_size", "local_size", "gram_size"):
                sizes[f"resolutions.{number}.{kind}"] = getattr(resolution, kind)
        return {f"views.{key}": size for key, size in sizes.items() if size is not None}


ViewSettings = Annotated[
    Annotated[MultiCropSettings, Tag("multi-crop")] | Annotated[AffineSettings, Tag("affine")],
    by_key("policy", "multi-crop"),
]
"""The views of a run, told apart by `policy`."""
