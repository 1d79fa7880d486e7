"""Protocol `transfer`: which weights of a pretrained U-Net a segmenter starts from, and how long each part rests."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from scanlore.adaptation.segmentation_settings import TransferSettings
from scanlore.backbones.build import build_backbone
from scanlore.backbones.resenc import ResEnc
from scanlore.backbones.unique import unique_state
from scanlore.errors import ModelError
from scanlore.modelfolder.model import Model
from scanlore.training.optim_settings import SgdSettings

STEM = "encoder.stem."
STEM_WEIGHT = "encoder.stem.convs.0.conv.weight"


def build_segmenter_network(
    model: Model, num_channels: int, num_classes: int, settings: TransferSettings, seed: int
) -> ResEnc:
    """Build the U-Net that is fine-tuned, with the model's weights where they are transferred.

    Args:
        model: A U-Net, pretrained or not; of an untrained one the weights are drawn anew by `seed`.
        num_channels: Of the task.
        num_classes: Of the task, background among them.
        settings: What is transferred.
        seed: Of the weights that start afresh.

    Raises:
        ModelError: The model was pretrained on another number of channels that cannot be spread over these.
    """
    source: ResEnc = model.backbone  # type: ignore[assignment]
    architecture = source.settings.model_copy(update={"in_channels": num_channels, "out_channels": num_classes})
    network = build_backbone(architecture, seed)
    if is_untrained(model):
        return network  # type: ignore[return-value]
    kept = {name: tensor for name, tensor in unique_state(source).items() if _is_transferred(name, settings)}
    kept[STEM_WEIGHT] = _stem(kept[STEM_WEIGHT], num_channels, model.name)
    if settings.stem == "random" and num_channels != source.in_channels:
        kept = {name: tensor for name, tensor in kept.items() if not name.startswith(STEM)}
    # Twins share their storage, so that one spelling fills both
    wanted = unique_state(network)
    for name, tensor in kept.items():
        wanted[name].copy_(tensor)
    return network  # type: ignore[return-value]


def is_untrained(model: Model) -> bool:
    """Return whether a model starts from random weights."""
    return bool(model.facts.get("provenance", {}).get("untrained"))


def _is_transferred(name: str, settings: TransferSettings) -> bool:
    if name.startswith("encoder."):
        return True
    return settings.transfer == "all" and not name.startswith("decoder.seg_layers.")


def _stem(weight: Tensor, num_channels: int, model: str) -> Tensor:
    """Spread a stem of one channel over several, so that equal channels give what one gave (S3D, Table 6)."""
    pretrained = weight.shape[1]
    if pretrained == num_channels:
        return weight
    if pretrained > 1:
        what = f"the model was pretrained on {pretrained} channels, the task has {num_channels}"
        raise ModelError(what, where=model, fix="take a model of one channel, or an untrained one: random:NAME")
    return weight.repeat(1, num_channels, *(1,) * (weight.ndim - 2)) / num_channels


def resting(settings: TransferSettings, new_stem: bool) -> Callable[[str], float]:
    """Return for how long each parameter rests, as a share of the run.

    Args:
        settings: Resolved.
        new_stem: Whether the stem was spread over several channels.
    """
    share = 1.0 if settings.train == "decoder" else settings.warmup if _warms_decoder(settings) else 0.0

    def rest(name: str) -> float:
        learns_early = new_stem and not settings.freeze_stem and name.startswith(STEM)
        return share if name.startswith("encoder.") and not learns_early else 0.0

    return rest


def _warms_decoder(settings: TransferSettings) -> bool:
    return settings.warmups == "decoder-then-whole"


def sgd_of(settings: TransferSettings) -> SgdSettings:
    """Return the optimiser of resolved settings."""
    count = {"none": 0, "whole": 1, "decoder-then-whole": 2}[settings.warmups]
    return SgdSettings.model_validate(
        {
            "lr": settings.lr,
            "momentum": settings.momentum,
            "weight_decay": settings.weight_decay,
            "warmups": (settings.warmup,) * count,
            "power": settings.power,
            "clip": settings.clip,
        }
    )
