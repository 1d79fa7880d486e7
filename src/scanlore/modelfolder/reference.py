"""One grammar names every model, wherever a command takes one.

`PATH`            a model folder, or the run folder that holds one
`RUN@STEP`        a pretraining run at one of its exports or checkpoints
`random:NAME`     an untrained network: a name of `scanlore models list`
`random:PATH`     an untrained network like the model at PATH, with its preprocessing: the fair baseline of that model;
                  `random:dinov2:NAME` and the like too
`pixels:EDGE`     the scan itself, resized to EDGE voxels: what any representation has to beat
`dinov2:NAME`     Meta's published DINOv2, downloaded: `vits14`, `vitb14`, `vitl14`, `vitg14`, each also with `_reg`
`dinov2:FILE`     a file of weights of that family: Meta's, DINOv2's checkpoints, timm's, transformers', our exports
`3dino:FILE`      3DINO-ViT, as its authors give it
`timm:NAME`       a DINOv2 model of timm, downloaded
`hf:ORG/NAME`     a DINOv2 model of transformers, downloaded; `hf:FOLDER` where it is there already
"""

from __future__ import annotations

import logging
from pathlib import Path

from scanlore.backbones.build import build_backbone
from scanlore.backbones.pixels import Pixels
from scanlore.backbones.settings import backbone_settings
from scanlore.config import validate
from scanlore.errors import ModelError, nearest
from scanlore.modelfolder.facts import KINDS, read_backbone_facts
from scanlore.modelfolder.model import Model
from scanlore.modelfolder.preprocessing import Preprocessing, preprocessing_of
from scanlore.modelfolder.stored import model_folder
from scanlore.modelfolder.weights import load_network, open_weights
from scanlore.registry import BACKBONES

__all__ = ["load_model", "preprocessing_of"]

logger = logging.getLogger("scanlore")

# Edge of the images an untrained network sees: DINOv2's global crops.
IMAGE_SIZE = 224
# What S3D's and nnU-Net's networks see, besides their spacing.
CNN_PREPROCESSING = {"scaling": "zscore", "resize": "centre-crop", "outside": 0.0}
SEED = 0
PUBLISHED = KINDS[2:]


def load_model(reference: str | Path, device: str = "cpu", ndim: int | None = None) -> Model:
    """Load a model by reference.

    Args:
        reference: See the module's grammar.
        device: Where to put it.
        ndim: Spatial axes of the data, for references that fit both: `random:NAME` and `pixels:EDGE`; 3 by default.

    Returns:
        The model in evaluation mode.

    Raises:
        ModelError: There is no such model, or it is damaged.
    """
    text = str(reference)
    kind, colon, rest = text.partition(":")
    if kind == "random" and colon:
        model = _random(text, rest, ndim or 3)
    elif kind == "pixels" and colon:
        model = _pixels(text, rest, ndim or 3)
    else:
        model = _stored(text)
    return model.to(device).eval()


def _random(text: str, rest: str, ndim: int) -> Model:
    if rest in BACKBONES:
        size = BACKBONES[rest].input_size if ndim == 3 else IMAGE_SIZE
        is_vit = BACKBONES[rest].family == "vit"
        options = {"patch_size": 16, "image_size": size} if is_vit else {}
        architecture = backbone_settings({"name": rest, "ndim": ndim} | options, text)
        usual = {} if is_vit else CNN_PREPROCESSING | {"spacing": 1.0 if ndim == 3 else None}
        preprocessing = Preprocessing.model_validate({"ndim": ndim, "input_size": size} | usual)
    elif rest and Path(rest).exists():
        facts = read_backbone_facts(model_folder(Path(rest), text))
        architecture = backbone_settings(facts["architecture"], where=rest)
        preprocessing = validate(Preprocessing, facts["preprocessing"], where=rest)
    elif rest.partition(":")[0] in PUBLISHED:
        weights = open_weights(rest)
        architecture, preprocessing = weights.architecture, weights.preprocessing
    else:
        known = list(BACKBONES)
        fix = f"names: {', '.join(known)}; or the path of a model{nearest(rest, known)}"
        raise ModelError(f"no backbone {rest!r}" if rest else "names no backbone", where=text, fix=fix)
    facts = {"architecture": architecture.model_dump(mode="json"), "provenance": {"untrained": True, "seed": SEED}}
    return Model(text, build_backbone(architecture, SEED), preprocessing, facts)


def _pixels(text: str, rest: str, ndim: int) -> Model:
    if not rest.isdecimal() or int(rest) < 1:
        raise ModelError(f"{rest!r} is no edge in voxels", where=text, fix="a model such as pixels:32")
    preprocessing = Preprocessing.model_validate({"ndim": ndim, "input_size": int(rest), "crop": "none"})
    return Model(text, Pixels(int(rest), ndim), preprocessing, {"provenance": {"untrained": True}})


def _stored(text: str) -> Model:
    weights = open_weights(text)
    for line in weights.report.lines():
        logger.info("%s: %s", text, line)
    return Model(text, load_network(weights), weights.preprocessing, weights.facts)
