"""Settings of protocols; torch-free."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field, field_validator

from scanlore.adaptation.segmentation_settings import LinearDecoderSettings, SegmentationSettings, TransferSettings
from scanlore.config import Settings, apply_overrides, load_recipe, validate
from scanlore.errors import ConfigError, nearest


class FeatureSettings(Settings):
    """How features are computed before a protocol uses them.

    Attributes:
        batch_size: Views that pass the network at once.
        precision: `fp32` keeps the small differences by which an untrained network's features differ, so that it is a
            fair baseline; `auto` is bfloat16 on CUDA and float32 elsewhere.
        max_bad: Share of scans that may be unreadable; one always may.
    """

    batch_size: int = Field(8, ge=1)
    precision: Literal["auto", "fp32", "bf16"] = "fp32"
    max_bad: float = Field(0.01, ge=0, le=1)


class KnnSettings(Settings):
    """Nearest neighbours by cosine similarity.

    Attributes:
        protocol: Always `knn`.
        k: Number of neighbours; at most the number of training cases is used.
        weights: Whether neighbours count by the inverse of their cosine distance (`distance`) or alike (`uniform`).
        features: How features are computed.
    """

    protocol: Literal["knn"] = "knn"
    k: int = Field(20, ge=1)
    weights: Literal["uniform", "distance"] = "distance"
    features: FeatureSettings = FeatureSettings()


class LinearProbeSettings(Settings):
    """A grid of linear heads on frozen features, the best by validation (3DINO, "Linear classification probing").

    Every learning rate meets every number of last layers and both answers to average pooling: 13 x 4 x 2 = 104 heads.
    Features are computed once, so training sees no augmentation.

    Attributes:
        protocol: Always `linear-probe`.
        learning_rates: Learning rates of the grid, as they are: not scaled by the batch size.
        last_layers: How many last layers' [CLS] tokens are concatenated; numbers the model lacks are left out.
        avg_pool: Whether the mean patch token of the last layer is concatenated as well.
        momentum: Momentum of SGD.
        weight_decay: Weight decay of SGD.
        batch_size: Cases in a step; at most all training cases.
        steps: Steps of SGD, along a cosine from the learning rate to zero.
        features: How features are computed.
    """

    protocol: Literal["linear-probe"] = "linear-probe"
    learning_rates: tuple[float, ...] = (1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
    last_layers: tuple[int, ...] = (1, 2, 3, 4)
    avg_pool: tuple[bool, ...] = (False, True)
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(0.0, ge=0)
    batch_size: int = Field(32, ge=1)
    steps: int = Field(12500, ge=1)
    features: FeatureSettings = FeatureSettings()

    @field_validator("learning_rates", "last_layers")
    @classmethod
    def _positive(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if not values or min(values) <= 0:
            msg = "needs one positive number or more"
            raise ValueError(msg)
        return tuple(sorted(set(values)))

    @field_validator("avg_pool")
    @classmethod
    def _answered(cls, values: tuple[bool, ...]) -> tuple[bool, ...]:
        if not values:
            msg = "needs true, false, or both"
            raise ValueError(msg)
        return tuple(sorted(set(values)))


ClassificationSettings = KnnSettings | LinearProbeSettings
ProtocolSettings = ClassificationSettings | TransferSettings | LinearDecoderSettings
SETTINGS: dict[str, type[ProtocolSettings]] = {
    "knn": KnnSettings,
    "linear-probe": LinearProbeSettings,
    "transfer": TransferSettings,
    "linear-decoder": LinearDecoderSettings,
}


def is_for_segmentation(protocol: str) -> bool:
    """Return whether a protocol labels voxels; the others label scans."""
    return issubclass(SETTINGS[protocol], SegmentationSettings)


def protocol_settings(protocol: str, recipe: str | None = None, overrides: Sequence[str] = ()) -> ProtocolSettings:
    """Return the validated settings of a protocol.

    Args:
        protocol: A name in `SETTINGS`.
        recipe: Name or path of a recipe; `None` for the one called like the protocol.
        overrides: Dotted overrides such as `features.batch_size=16`.

    Raises:
        ConfigError: The protocol, the recipe or a setting is unknown, or the recipe is of another protocol.
    """
    if protocol not in SETTINGS:
        fix = f"protocols: {', '.join(SETTINGS)}{nearest(protocol, list(SETTINGS))}"
        raise ConfigError(f"no protocol {protocol!r}", where="protocol", fix=fix)
    name = recipe or protocol
    data: dict[str, Any] = apply_overrides(load_recipe(name, "adapt"), overrides)
    data.pop("description", None)  # for `recipes list`; no part of what a trial is
    named = data.get("protocol", protocol)
    if named != protocol:
        raise ConfigError(f"is a recipe of the protocol {named!r}, not {protocol!r}", where=name)
    return validate(SETTINGS[protocol], data, name)
