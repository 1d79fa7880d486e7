"""How a scan becomes the input of a segmenter: recorded with the weights, applied by every command; torch-free."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from scanlore.config import Settings


class SegmentationPreprocessing(Settings):
    """From a scan to the windows a segmenter expects, and from its output to labels.

    Attributes:
        ndim: 2 or 3: spatial axes of the scans.
        in_channels: Channels of a scan, all seen at once.
        channels: Their names, in order; empty where they have none.
        patch: Shape of a window in voxels, along the RAS+ axes (height and width of an image).
        spacing: Voxel size of a window in mm along each axis; `None` sees a scan in its own voxels. A scan without a
            known size is always seen in its own voxels.
        scaling: Intensity policy, one of `scanlore.registry.SCALINGS`, from the statistics of each whole channel.
        window: Lower and upper intensity of the policy `window`.
        outside: Value of window voxels outside the scan, after scaling.
        labels: Name of each label value in the order of the network's outputs, the background, 0, first.
    """

    ndim: Literal[2, 3]
    in_channels: int = Field(1, ge=1)
    channels: tuple[str, ...] = ()
    patch: tuple[int, ...]
    spacing: tuple[float, ...] | None = None
    scaling: str = "zscore"
    window: tuple[float, float] | None = None
    outside: float = 0.0
    labels: dict[int, str]

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if len(self.patch) != self.ndim or min(self.patch) < 1:
            raise ValueError(f"patch must be {self.ndim} edges of 1 voxel or more, not {self.patch}")
        if self.spacing is not None and (len(self.spacing) != self.ndim or min(self.spacing) <= 0):
            raise ValueError(f"spacing must be {self.ndim} positive sizes in mm, not {self.spacing}")
        if self.channels and len(self.channels) != self.in_channels:
            raise ValueError(f"{len(self.channels)} names for {self.in_channels} channels")
        values = list(self.labels)
        if len(values) < 2 or values[0] != 0 or not 0 < min(values[1:]) <= max(values) < 1 << 15:
            raise ValueError("labels must be the background 0 and at least one value between 1 and 32767")
        return self

    @property
    def num_classes(self) -> int:
        """Outputs of the network, the background included."""
        return len(self.labels)
