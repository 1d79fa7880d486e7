"""What every pretraining method offers to the training loop."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor, nn

from scanlore.methods.schedules import Progress

__all__ = ["Method", "Observed", "ParamRule", "Progress", "WithoutHeads", "has_decay"]


@dataclass(frozen=True)
class ParamRule:
    """How one trainable parameter is optimised.

    Attributes:
        name: As in `named_parameters()` of the method.
        part: Parameters of one part are clipped together.
        layers_above: Layers between this one and the top, for layer-wise learning-rate decay.
        is_patch_embed: Whether the learning rate of the patch embedding applies.
        decay: Whether weight decay applies.
        frozen_share: Share of the run in which its learning rate is zero.
        frozen_steps: Steps in which it is zero, however long the run is.
        ramp_share: Further share of the run, behind `frozen_share`, in which its learning rate rises linearly.
    """

    name: str
    part: str
    layers_above: int = 0
    is_patch_embed: bool = False
    decay: bool = True
    frozen_share: float = 0.0
    frozen_steps: int = 0
    ramp_share: float = 0.0


@dataclass
class Observed:
    """What the last step saw, for the health report: scalars on the device, by name."""

    values: dict[str, Tensor] = field(default_factory=dict)


class Method(Protocol):
    """What the loop trains, in pretraining and in adaptation: an `nn.Module` written for one device.

    Attributes:
        observed: Set by `forward`.
    """

    observed: Observed

    def __call__(self, batch: Any, progress: Progress) -> dict[str, Tensor]:
        """Return the weighted loss terms by name; their sum is minimised.

        Args:
            batch: Of the kind that the method's views make.
            progress: Where the run stands.
        """
        ...

    def after_step(self, progress: Progress) -> None:
        """Update what is not trained by gradients, such as teachers."""
        ...

    def param_rules(self) -> list[ParamRule]:
        """Return one rule for every trainable parameter."""
        ...

    def exported(self) -> nn.Module:
        """Return the network to keep."""
        ...

    def heads(self) -> dict[str, Tensor]:
        """Return what belongs to the exported network besides it: the tensors a continued run starts from, by name."""
        ...

    def start_from(self, heads: dict[str, Tensor]) -> None:
        """Start from a trained model, whose weights are in the backbone that learns already.

        Args:
            heads: As `heads` gave them; those that are missing stay fresh.

        Raises:
            ModelError: They are not those of this method; nothing was changed.
        """
        ...

    def rest_backbone(self, share: float, ramp: float) -> None:
        """Keep the backbone still while fresh heads learn; before `param_rules` is asked.

        Args:
            share: Share of the run in which it rests.
            ramp: Further share in which its learning rate rises linearly.
        """
        ...

    def as_module(self) -> nn.Module:
        """Return the method as the module it is."""
        ...


class WithoutHeads:
    """The part of a method's contract that is about heads, for methods that have none."""

    def heads(self) -> dict[str, Tensor]:
        """Return nothing."""
        return {}

    def start_from(self, heads: dict[str, Tensor]) -> None:
        """Do nothing: the backbone is all there is."""

    def rest_backbone(self, share: float, ramp: float) -> None:
        """Do nothing: no head needs time."""


def has_decay(name: str) -> bool:
    """Return whether weight decay applies to a parameter: not to biases, norms and LayerScale (DINOv2)."""
    return not (name.endswith(".bias") or "norm" in name or "gamma" in name)
