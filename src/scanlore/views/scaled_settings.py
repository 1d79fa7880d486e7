"""What the settings of all views share: axes and intensities. Torch-free."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, PositiveFloat, field_validator, model_validator

from scanlore.config import Settings
from scanlore.errors import nearest
from scanlore.registry import SCALINGS

Range = tuple[float, float]
PositiveRange = tuple[PositiveFloat, PositiveFloat]
Share = Annotated[float, Field(ge=0, le=1)]


def ordered(value: Range) -> Range:
    """Return a range; refuse one whose ends are swapped.

    Raises:
        ValueError: The first number is above the second.
    """
    if value[0] > value[1]:
        msg = "the first number must not be above the second"
        raise ValueError(msg)
    return value


def partial(value: Range) -> Range:
    """Return a range of hidden shares; refuse one that may hide nothing or everything.

    Raises:
        ValueError: It does not lie between 0 and 1.
    """
    if not 0 < value[0] <= value[1] < 1:
        msg = "needs 0 < first <= second < 1: a view without hidden or visible parts teaches nothing"
        raise ValueError(msg)
    return value


class ScaledSettings(Settings):
    """Axes and intensity scaling of views.

    Attributes:
        ndim: 3 for volumes; 2 for images and for single slices of volumes.
        scaling: Intensity policy, from the statistics of the whole scan.
        window: Intensity bounds of the policy `window`.
    """

    ndim: Literal[2, 3] = 3
    scaling: str = "percentile-0.05-99.95"
    window: Range | None = None

    @field_validator("scaling")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in SCALINGS:
            msg = f"no intensity scaling of this name; there are {', '.join(SCALINGS)}{nearest(name, list(SCALINGS))}"
            raise ValueError(msg)
        return name

    @model_validator(mode="after")
    def _window_fits(self) -> Self:
        if (self.scaling == "window") != (self.window is not None):
            msg = "scaling 'window' and window: [low, high] belong together"
            raise ValueError(msg)
        if self.window is not None and not self.window[0] < self.window[1]:
            msg = "window needs two rising bounds"
            raise ValueError(msg)
        return self
