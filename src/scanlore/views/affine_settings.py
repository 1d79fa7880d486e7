"""Settings of patches under a random affine map: of S3D's pretraining and of training with labels. Torch-free."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from types import UnionType
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, PositiveFloat, field_validator, model_validator

from scanlore.config import Settings
from scanlore.views.scaled_settings import PositiveRange, Range, ScaledSettings, Share, ordered, partial


def _one_line(alone: Callable[[Any], bool], part: type | UnionType, message: str) -> BeforeValidator:
    """Check a list of numbers above 0 or a value that stands `alone`: pydantic answers with a line for each kind."""

    def check(value: Any) -> Any:
        parts = value if isinstance(value, list | tuple) else []
        are_numbers = all(isinstance(number, part) for number in parts)
        if not (parts or alone(value)) or not are_numbers or min(parts, default=1) <= 0:
            raise ValueError(message)
        return value

    return BeforeValidator(check)


Edges = tuple[int, ...]
Steps = tuple[float, ...]


class GeometrySettings(ScaledSettings):
    """Random rotation, scale and mirroring; probabilities and ranges are nnU-Net's, which S3D uses too.

    Attributes:
        scaling: Intensity policy, from the statistics of the whole scan.
        rotation_probability: Of a rotation.
        rotation_degrees: Largest angle about each axis, drawn uniformly; 2D views turn by one angle.
        scale_probability: Of a change of scale.
        scale: Factor on the step of the grid, the same along all axes; half of the draws enlarge, half shrink.
        flip: Probability of a mirrored axis, per axis.
        outside: Value of the view outside the scan; 0 is the scan's mean under `zscore`.
    """

    scaling: str = "zscore"
    rotation_probability: Share = 0.2
    rotation_degrees: float = Field(30.0, ge=0, le=180)
    scale_probability: Share = 0.2
    scale: PositiveRange = (0.7, 1.4)
    flip: Share = 0.5
    outside: float = 0.0

    _check_scale = field_validator("scale")(ordered)


class IntensitySettings(Settings):
    """nnU-Net's changes of intensity: noise, blur, brightness, contrast, low resolution and gamma.

    Attributes:
        enabled: Whether any is applied.
    """

    enabled: bool = True


class PatchSettings(GeometrySettings):
    """Patches for training with labels, augmented as nnU-Net does.

    Attributes:
        patch: Shape of a patch in voxels; `auto` is replaced before the training starts.
        spacing: mm between the voxels of a patch, per axis; `None` takes each scan's own, `auto` is replaced before the
            training starts.
        foreground: Share of every batch that is laid around a voxel of a random class.
        intensity: Changes of intensity.
    """

    patch: Annotated[
        Edges | Literal["auto"],
        _one_line(lambda value: value == "auto", int, "needs 'auto' or whole numbers of voxels above 0, one per axis"),
    ] = "auto"
    spacing: Annotated[
        Steps | Literal["auto"] | None,
        _one_line(
            lambda value: value in ("auto", None),
            int | float,
            "needs 'auto', null or numbers of mm above 0, one per axis",
        ),
    ] = "auto"
    foreground: Share = 0.33
    intensity: IntensitySettings = IntensitySettings()

    @model_validator(mode="before")
    @classmethod
    def _axes_as_given(cls, data: object) -> object:
        """Take the number of axes from patch or spacing where it is not said."""
        if not isinstance(data, dict) or "ndim" in data:
            return data
        given = [value for name in ("patch", "spacing") if isinstance(value := data.get(name), list | tuple)]
        return data | {"ndim": len(given[0])} if given else data

    @model_validator(mode="after")
    def _same_axes(self) -> Self:
        for name in ("patch", "spacing"):
            value = getattr(self, name)
            if isinstance(value, tuple) and len(value) != self.ndim:
                msg = f"{name} {list(value)} has {len(value)} numbers, ndim is {self.ndim}"
                raise ValueError(msg)
        return self


class BlockMaskSettings(Settings):
    """Masks of cubic blocks (S3D, section 3.1; MAE).

    Attributes:
        block: Edge of a block in voxels.
        ratio: Smallest and largest share of hidden blocks, drawn uniformly per view.
    """

    block: int = Field(16, ge=1)
    ratio: Range = (0.6, 0.9)

    _check = field_validator("ratio")(partial)


class AffineSettings(GeometrySettings):
    """S3D's views: one patch of a scan under a random affine map.

    Attributes:
        policy: Which plan this is.
        size: Edge of a view in voxels, or one edge per axis.
        spacing: mm between the voxels of a view; `None` takes the scan's own. Scans without spacing are taken as they
            are.
        masks: What is hidden of a view; `None` hides nothing.
    """

    policy: Literal["affine"] = "affine"
    size: Annotated[
        int | Edges,
        _one_line(
            lambda value: isinstance(value, int) and value > 0,
            int,
            "needs a whole number of voxels above 0, or one per axis",
        ),
    ] = 160
    spacing: PositiveFloat | None = 1.0
    masks: BlockMaskSettings | None = BlockMaskSettings()

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a view."""
        return (self.size,) * self.ndim if isinstance(self.size, int) else self.size

    @property
    def mask_grid(self) -> tuple[int, ...]:
        """Blocks of a mask along each axis; those of one voxel where nothing is hidden."""
        block = self.masks.block if self.masks else 1
        return tuple(edge // block for edge in self.shape)

    @property
    def clips(self) -> bool:
        """Whether views end within the range of their intensity scaling: nothing here leaves it."""
        return False

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(self.shape) != self.ndim:
            msg = f"size {list(self.shape)} has {len(self.shape)} edges, ndim is {self.ndim}"
            raise ValueError(msg)
        if self.masks is None:
            return self
        block = self.masks.block
        if any(edge % block for edge in self.shape):
            nearest = [max(1, round(edge / block)) * block for edge in self.shape]
            fits = nearest[0] if len(set(nearest)) == 1 else nearest
            msg = f"size {self.size} is no multiple of masks.block {block}; the nearest that fits is {fits}"
            raise ValueError(msg)
        if prod(self.mask_grid) < 2:
            msg = f"size {self.size} is a single block of {block}: something must be hidden and something visible"
            raise ValueError(msg)
        return self
