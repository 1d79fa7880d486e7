"""How a scan becomes the input of a model: recorded with the weights, applied by every command; torch-free."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from scanlore.config import Settings


class Preprocessing(Settings):
    """From a scan to the views a model expects.

    Attributes:
        ndim: 2 or 3: a 2D model sees a volume as slices across its through-plane axis.
        in_channels: Channels of one view. Scans are seen one channel at a time, except a colour image by a network for
            colours.
        input_size: Edge of a view in voxels, the longest.
        input_shape: Shape of a view whose edges differ.
        scaling: Intensity policy, one of `scanlore.registry.SCALINGS`, from the statistics of the whole scan.
        window: Lower and upper intensity of the policy `window`.
        mean: What is subtracted from each channel of a view whose values, scaled to [-1, 1], are brought to [0, 1]
            first; `None` leaves a view as it is scaled.
        std: What each channel is divided by after that.
        crop: `foreground`: the bounding box of voxels above the 0.05 percentile; `none`: the whole scan.
        resize: `stretch`: the crop is resized to the shape of a view, whatever its spacing; `centre-crop`: a view
            with a spacing of its own lies around the centre of the crop.
        spacing: mm between the voxels of a view that is not stretched; `None` takes the scan's own, and a scan without
            spacing is always taken as it is.
        outside: Value of a view outside the scan, after scaling; `None` repeats the edge.
        mip_rule: `evaluation`: sampled from the coarsest level at least as fine as the view.
        max_slices: Slices a 2D model sees of a volume, evenly spaced.
        channels: How channels and slices become one embedding: their `mean`.
        embedding: What represents a view: `cls`, `mean` (mean patch token) or `cls+mean`.
    """

    ndim: Literal[2, 3]
    in_channels: int = Field(1, ge=1)
    input_size: int = Field(ge=1)
    input_shape: tuple[PositiveInt, ...] | None = None
    scaling: str = "percentile-0.05-99.95"
    window: tuple[float, float] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[PositiveFloat, ...] | None = None
    crop: Literal["foreground", "none"] = "foreground"
    resize: Literal["stretch", "centre-crop"] = "stretch"
    spacing: float | None = Field(None, gt=0)
    outside: float | None = None
    mip_rule: Literal["evaluation"] = "evaluation"
    max_slices: int = Field(32, ge=1)
    channels: Literal["mean"] = "mean"
    embedding: Literal["cls", "mean", "cls+mean"] = "cls"

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a view."""
        return self.input_shape or (self.input_size,) * self.ndim

    @model_validator(mode="after")
    def _colours(self) -> Preprocessing:
        given = [values for values in (self.mean, self.std) if values is not None]
        if given and [len(values) for values in given] != [self.in_channels] * 2:
            raise ValueError(f"mean and std need {self.in_channels} numbers each, one for each channel")
        if given and self.scaling == "zscore":
            raise ValueError("mean and std are for scalings to [-1, 1], which zscore is not")
        return self


def preprocessing_of(views: dict[str, Any], embedding: str) -> Preprocessing:
    """Return the preprocessing that belongs to a model pretrained on views with these settings.

    Args:
        views: As in `config.yaml`.
        embedding: `cls`, `mean` or `cls+mean`.
    """
    facts = {"embedding": embedding} | {name: views[name] for name in ("ndim", "scaling", "window")}
    if views.get("policy") != "affine":
        return Preprocessing.model_validate(facts | {"input_size": views["global_crops"]["size"]})
    size, seen = views["size"], {name: views[name] for name in ("spacing", "outside")} | {"resize": "centre-crop"}
    edges = [size] if isinstance(size, int) else list(size)
    if len(set(edges)) > 1:
        seen["input_shape"] = edges
    return Preprocessing.model_validate(facts | seen | {"input_size": max(edges)})
