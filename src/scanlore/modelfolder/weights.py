"""Weights by reference: every model that is stored somewhere, ours or published by others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from scanlore.errors import ModelError, nearest
from scanlore.modelfolder.facts import GRAMMAR, KINDS
from scanlore.modelfolder.folder import network_of
from scanlore.modelfolder.licences import DINOV2, THREE_DINO
from scanlore.modelfolder.published.download import NAMES, dinov2_file, unknown_name
from scanlore.modelfolder.published.files import read_weights_file
from scanlore.modelfolder.published.hub import open_hub, open_timm
from scanlore.modelfolder.published.load import Source, weights_of
from scanlore.modelfolder.stored import open_checkpoint, open_folder, run_config
from scanlore.modelfolder.weights_type import Weights
from scanlore.registry import BACKBONES

__all__ = ["Weights", "describe", "load_network", "open_weights"]


def open_weights(reference: str | Path) -> Weights:
    """Read the weights a reference means.

    Args:
        reference: A model folder, a run, `RUN@STEP`, `dinov2:NAME`, `dinov2:FILE`, `3dino:FILE`, `timm:NAME`,
            `hf:ORG/NAME` or `hf:FOLDER`.

    Raises:
        ModelError: There is no such model, it is damaged, or it is another network than the reference says.
    """
    text = str(reference)
    kind, colon, rest = text.partition(":")
    if colon and kind in _PUBLISHED and not Path(text).exists():
        return _PUBLISHED[kind](text, rest)
    if colon and kind in ("random", "pixels"):
        raise ModelError("has no stored weights", where=text, fix="name a trained model")
    run, at, step = text.rpartition("@")
    if at and step.isdecimal() and not Path(text).exists():
        exported = Path(run) / "exports" / f"step_{int(step):08d}"
        if exported.is_dir():
            return open_folder(text, exported)
        stages = sorted((Path(run) / "stages").glob("*/config.yaml"), key=lambda path: path.stat().st_mtime)
        if stages:
            named = " or ".join(f"{path.parent}@{step}" for path in stages)
            raise ModelError("the run has stages", where=text, fix=f"name one: {named}")
        return open_checkpoint(text, Path(run), int(step), _inherited_licence(Path(run)))
    if not Path(text).exists():
        raise ModelError("there is no such model", where=text, fix=f"a model is {GRAMMAR}{_nearest(text)}")
    return open_folder(text, Path(text))


def load_network(weights: Weights) -> nn.Module:
    """Build the network of weights, in evaluation mode.

    Raises:
        ModelError: The weights do not fit their own architecture.
    """
    return network_of(weights.architecture, weights.backbone, weights.name).eval()


def describe(reference: str | Path) -> dict[str, Any]:
    """Return what is known of stored weights: `model.json`, and for published ones how they were read."""
    weights = open_weights(reference)
    heads = {"heads": sorted({name.partition(".")[0] for name in weights.heads})} if weights.heads else {}
    return weights.facts | heads | ({"read": weights.report.lines()} if weights.report.loaded else {})


def _dinov2(text: str, rest: str) -> Weights:
    if Path(rest).is_file():
        return weights_of(read_weights_file(Path(rest)), Source(text))
    if rest not in NAMES:
        raise unknown_name(text, rest)
    return weights_of(read_weights_file(dinov2_file(rest)), Source(text, ndim=2, licence=DINOV2))


def _three_dino(text: str, rest: str) -> Weights:
    if not rest:
        raise ModelError("names no file", where=text, fix="3dino:FILE, downloaded from its authors' page")
    return weights_of(read_weights_file(Path(rest)), Source(text, ndim=3, licence=THREE_DINO))


_PUBLISHED = {"dinov2": _dinov2, "3dino": _three_dino, "timm": open_timm, "hf": open_hub}


def _inherited_licence(run: Path) -> str | None:
    """Return the licence of the weights a run started from; `None` where it started from fresh ones."""
    if not (run / "config.yaml").is_file():
        return None
    start = str((run_config(run).get("start") or {}).get("weights") or "")
    if not start:
        return None
    if start.startswith("stage "):
        start = str(run.parent / start.removeprefix("stage "))
    try:
        return str(open_weights(start).facts.get("licence"))
    except ModelError:
        return THREE_DINO if start.startswith("3dino:") else f"not known: that of {start}, which it continues"


def _nearest(text: str) -> str:
    kind, colon, rest = text.partition(":")
    if colon and kind.isalnum():
        near = next((known for known in KINDS if f"'{known}'" in nearest(kind, list(KINDS))), None)
        return f"; did you mean '{near}:{rest}'?" if near else ""
    close = nearest(text, list(BACKBONES))
    return close.replace("'", "'random:", 1) if close else nearest(text, _neighbours(Path(text)))


def _neighbours(path: Path) -> list[str]:
    parent = path.parent
    return [str(other) for other in parent.iterdir() if other.is_dir()] if parent.is_dir() else []
