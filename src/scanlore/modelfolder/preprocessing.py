"""How a scan becomes the input of a model: recorded with the weights, applied by every command; torch-free."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveInt

from scanlore.config import Settings


class Preprocessing(Settings):
    """From a scan to the views a model expects.

    Attributes:
        ndim: 2 or 3: a 2D model sees a volume as slices across its through-plane axis.
        in_channels: Channels of one view; scans with more are seen one channel at a time.
        input_size: Edge of a view in voxels, the longest.
        input_shape: Shape of a view whose edges differ.
        scaling: Intensity policy, one of `scanlore.registry.SCALINGS`, from the statistics of the whole scan.
        window: Lower and upper intensity of the policy `window`.
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
