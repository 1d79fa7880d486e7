"""What every pretraining method offers to the training loop."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor, nn


@dataclass(frozen=True)
class Progress:
    """Where a run stands.

    Attributes:
        step: Optimiser steps done.
        num_steps: Of the whole run.
    """

    step: int
    num_steps: int

    @property
    def share(self) -> float:
        """Share of the run that is done, 0 to 1."""
        return self.step / max(1, self.num_steps)


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
    """

    name: str
    part: str
    layers_above: int = 0
    is_patch_embed: bool = False
    decay: bool = True
    frozen_share: float = 0.0


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

    def as_module(self) -> nn.Module:
        """Return the method as the module it is."""
        ...


def has_decay(name: str) -> bool:
    """Return whether weight decay applies to a parameter: not to biases, norms and LayerScale (DINOv2)."""
    return not (name.endswith(".bias") or "norm" in name or "gamma" in name)
