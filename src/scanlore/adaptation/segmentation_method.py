"""A network that learns to segment patches, under the contract of the training loop."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from scanlore.adaptation.segmentation_loss import cross_entropy_loss, soft_dice_loss
from scanlore.methods.contract import Observed, ParamRule, Progress, WithoutHeads
from scanlore.views.patches import LabelledBatch


class SegmentationMethod(WithoutHeads, nn.Module):
    """Dice and cross-entropy on labelled patches; parts of the network may rest for a share of the run.

    Args:
        network: Logits `(B, K, *spatial)` of views `(B, C, *spatial)`.
        frozen: Takes the name of a parameter, gives the share of the run for which it rests; 1 for all of it.
        ignore: Label of voxels that count nowhere.
    """

    def __init__(self, network: nn.Module, frozen: Callable[[str], float], ignore: int | None = None) -> None:
        super().__init__()
        self.network, self.ignore, self.observed = network, ignore, Observed()
        self.rests = {name: frozen(name) if p.requires_grad else 1.0 for name, p in network.named_parameters()}

    def as_module(self) -> nn.Module:
        """Return the method itself."""
        return self

    def forward(self, batch: LabelledBatch, progress: Progress) -> dict[str, Tensor]:
        """Return the loss terms `dice` and `cross_entropy`.

        Args:
            batch: Labelled patches.
            progress: Decides which parameters rest.
        """
        self._wake(progress.share)
        logits = self.network(batch.pixels)
        return {
            "dice": soft_dice_loss(logits, batch.labels, self.ignore),
            "cross_entropy": cross_entropy_loss(logits, batch.labels, self.ignore),
        }

    def _wake(self, share: float) -> None:
        """Let the parameters learn whose rest is over; no gradient is computed for the others, nor kept by momentum."""
        for name, parameter in self.network.named_parameters():
            parameter.requires_grad_(share >= self.rests[name] and self.rests[name] < 1)

    def after_step(self, progress: Progress) -> None:
        """Do nothing: there is no teacher."""

    def param_rules(self) -> list[ParamRule]:
        """Return one rule for every parameter that ever learns; all decay, as in nnU-Net."""
        return [
            ParamRule(f"network.{name}", part="network", frozen_share=rest)
            for name, rest in self.rests.items()
            if rest < 1
        ]

    def exported(self) -> nn.Module:
        """Return the network."""
        return self.network
