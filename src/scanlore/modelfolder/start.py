"""What a run starts from: stored weights, fitted to the network of the run by named options alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from scanlore.backbones.settings import ResEncSettings, ViTSettings
from scanlore.errors import ConfigError, ModelError
from scanlore.modelfolder.fit import Adapted, State, fold_grey, inflate, resize_positions
from scanlore.modelfolder.published.load import shapes_of
from scanlore.modelfolder.report import LoadReport, compare
from scanlore.modelfolder.start_settings import StartSettings
from scanlore.modelfolder.weights import Weights, open_weights
from scanlore.registry import BACKBONES

VIEW_RANGE = (-1.0, 1.0)
"""Values of a view that stand for black and white, for every scaling but `zscore`."""

_PLAIN = 0.5
"""Mean and deviation of colours in [0, 1] that a network took in [-1, 1]."""


@dataclass(frozen=True)
class Start:
    """Weights that fit the network of a run.

    Attributes:
        backbone: Its tensors, whole.
        heads: Tensors of projection heads; empty where they start afresh.
        report: What became of the stored tensors.
        facts: Of the stored weights, with their licence.
    """

    backbone: dict[str, Tensor]
    heads: dict[str, Tensor]
    report: LoadReport
    facts: dict[str, Any]


def load_start(
    settings: StartSettings,
    architecture: ViTSettings | ResEncSettings,
    view_range: tuple[float, float] = VIEW_RANGE,
) -> Start:
    """Open the weights a run starts from and fit them to its network.

    The position embedding is always resized to the views of the run; colours are folded into grey and 2D networks made
    3D only where the settings say so.

    Args:
        settings: With `weights`.
        architecture: Of the network of the run.
        view_range: Values of a view that stand for black and white, for `channels: grey`.

    Raises:
        ConfigError: The settings name no weights.
        ModelError: There are no such weights, or they do not fit the network.
    """
    if settings.weights is None:
        raise ConfigError("names no weights", where="start.weights", fix="a model reference")
    weights = open_weights(settings.weights)
    heads = _heads(weights, settings)
    state, adapted = _fitted(weights, architecture, settings, view_range)
    aside = ({*weights.report.unexpected, *weights.heads}) - heads.keys()
    report = compare(state, shapes_of(architecture), [*weights.report.adapted, *adapted], aside)
    report.check(weights.name)
    return Start(state, heads, report, weights.facts)


def _heads(weights: Weights, settings: StartSettings) -> dict[str, Tensor]:
    if settings.heads == "load" and not weights.heads:
        fix = "start.heads: fresh, with start.head_warmup"
        raise ModelError("has no projection heads", where=weights.name, fix=fix)
    return {} if settings.heads == "fresh" else weights.heads


def _fitted(
    weights: Weights,
    target: ViTSettings | ResEncSettings,
    settings: StartSettings,
    view_range: tuple[float, float],
) -> tuple[State, Adapted]:
    source, state, adapted = weights.architecture, weights.backbone, []
    _check_same(weights, target, ("name",))
    if isinstance(source, ResEncSettings) or isinstance(target, ResEncSettings):
        _check_same(weights, target, ("ndim", "in_channels", "out_channels"))
        return dict(state), []
    _check_same(weights, target, ("num_registers", "positions", "has_layer_scale"))
    if source.in_channels != target.in_channels:
        state, changes = _grey(weights, target, settings, view_range)
        adapted += changes
    if source.ndim != target.ndim:
        state, changes = _inflated(state, weights, target, settings)
        return state, adapted + changes
    _check_same(weights, target, ("patch_size", "rope_base") if source.positions == "rope" else ("patch_size",))
    state, changes = resize_positions(state, source, target)
    return state, adapted + changes


def _check_same(weights: Weights, target: ViTSettings | ResEncSettings, keys: tuple[str, ...]) -> None:
    """Refuse what no option adapts, all of it in one line."""
    stored, wanted = _traits(weights.architecture), _traits(target)
    wrong = [key for key in keys if stored.get(key) != wanted.get(key)]
    if wrong:
        said = ", ".join(f"{key.replace('_', ' ')} {stored.get(key)}, not {wanted.get(key)}" for key in wrong)
        fix = "set backbone as in the weights, or take weights of the recipe's network"
        raise ModelError(f"the weights are of another network than the recipe's: {said}", where=weights.name, fix=fix)


def _traits(architecture: ViTSettings | ResEncSettings) -> dict[str, Any]:
    entry, traits = BACKBONES[architecture.name], architecture.model_dump()
    if isinstance(architecture, ViTSettings):
        traits["name"] = f"{architecture.name} ({entry.embed_dim} wide, {entry.depth} blocks, {entry.ffn})"
        traits["has_layer_scale"] = architecture.layer_scale > 0
    return traits


def _grey(
    weights: Weights, target: ViTSettings, settings: StartSettings, view_range: tuple[float, float]
) -> tuple[State, Adapted]:
    channels, facts = weights.architecture.in_channels, weights.preprocessing
    if settings.channels != "grey" or target.in_channels != 1:
        fix = "start.channels: grey" if target.in_channels == 1 else "set backbone.in_channels as in the weights"
        what = f"the weights take {channels} channels, the recipe's network {target.in_channels}"
        raise ModelError(what, where=weights.name, fix=fix)
    mean, std = facts.mean or (_PLAIN,) * channels, facts.std or (_PLAIN,) * channels
    return fold_grey(weights.backbone, mean, std, view_range)


def _inflated(state: State, weights: Weights, target: ViTSettings, settings: StartSettings) -> tuple[State, Adapted]:
    source = weights.architecture
    assert isinstance(source, ViTSettings)
    if settings.inflate == "none" or source.ndim == 3:
        fix = "start.inflate: average, or take weights of a 3D network" if source.ndim == 2 else "take a 3D recipe"
        what = f"the weights are of a {source.ndim}D network, the recipe's is {target.ndim}D"
        raise ModelError(what, where=weights.name, fix=fix)
    return inflate(state, source, target, settings.inflate)
