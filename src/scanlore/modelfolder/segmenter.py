"""Segmenters: a network that labels voxels, with the preprocessing it was trained with, and their model folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from scanlore.backbones.build import build_backbone
from scanlore.backbones.linear_decoder import LinearDecoder
from scanlore.backbones.settings import backbone_settings
from scanlore.config import validate
from scanlore.errors import ConfigError, ModelError
from scanlore.modelfolder.facts import read_facts
from scanlore.modelfolder.folder import fill, read_tensors, write_model
from scanlore.modelfolder.segmentation_preprocessing import SegmentationPreprocessing
from scanlore.scans.scan import Scan

KIND = "segmenter"
GRAMMAR = "a run of `scanlore adapt` on a segmentation task, or the model folder in it"
CARD = """# {name} for {labels}

A segmenter trained with Scanlore {version}.

- Architecture: {architecture}
- Training: {provenance}
- Preprocessing: {preprocessing}
- Licence of the weights: {licence}

```sh
scanlore predict PATH/OF/THIS/FOLDER scan.nii.gz --out masks
```

Not a medical device. Not for clinical decisions.
"""


class Segmenter(nn.Module):
    """What labels the voxels of scans.

    Args:
        network: From windows `(B, C, *patch)` to logits `(B, K, *patch)`.
        preprocessing: From scan to windows, and what the outputs are called.
        name: The reference it was asked for by.
        facts: What is known about it: `model.json`.
    """

    def __init__(
        self,
        network: nn.Module,
        preprocessing: SegmentationPreprocessing,
        name: str = "segmenter",
        facts: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.network, self.preprocessing = network, preprocessing
        self.name, self.facts = name, facts or {}

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of windows, `(B, K, *patch)`."""
        logits: Tensor = self.network(x)
        return logits

    def check(self, scan: Scan) -> None:
        """Make sure that a scan is of the kind the segmenter was trained on.

        Raises:
            ModelError: It has other axes, or another number of channels.
        """
        wanted = self.preprocessing
        if scan.ndim != wanted.ndim:
            kinds = {2: "a 2D image", 3: "a volume"}
            raise ModelError(f"the segmenter labels {wanted.ndim}D scans, this is {kinds[scan.ndim]}", where=self.name)
        if scan.num_channels != wanted.in_channels:
            names = f" ({', '.join(wanted.channels)})" if wanted.channels else ""
            channels = f"{wanted.in_channels} channel{'s' * (wanted.in_channels > 1)}{names}"
            raise ModelError(f"the segmenter takes {channels}, this scan has {scan.num_channels}", where=self.name)


def save_segmenter(
    folder: Path,
    network: nn.Module,
    architecture: dict[str, Any],
    preprocessing: SegmentationPreprocessing,
    provenance: dict[str, Any],
    licence: str = "of the one who trained it",
) -> None:
    """Write the model folder of a segmenter; each file is whole or not there.

    Args:
        folder: Where to.
        network: Its weights, those of a frozen backbone included, are written in float32 as they are.
        architecture: What rebuilds it: `backbone`, its settings, and `decoder`: `"unet"`, the backbone's own, or
            `{"linear": num_layers}`.
        preprocessing: From scan to windows.
        provenance: Model, task and labels it comes from.
        licence: Of the weights; travels with them.
    """
    facts = {
        "kind": KIND,
        "architecture": architecture,
        "preprocessing": preprocessing.model_dump(mode="json"),
        "provenance": provenance,
        "licence": licence,
    }
    labels = ", ".join(list(preprocessing.labels.values())[1:])
    write_model(folder, network, facts, CARD, name=architecture["backbone"]["name"], labels=labels)


def load_segmenter(reference: str | Path, device: str = "cpu") -> Segmenter:
    """Load a segmenter.

    Args:
        reference: The folder of an adaptation run, or the model folder in it.
        device: Where to put it.

    Returns:
        The segmenter in evaluation mode.

    Raises:
        ModelError: There is no such model, it is damaged, or it labels no voxels.
    """
    folder = segmenter_folder(reference)
    facts = read_facts(folder)
    if facts.get("kind") != KIND:
        what = "is a backbone: it gives features, no labels"
        raise ModelError(what, where=reference, fix="`scanlore adapt` it to a segmentation task first")
    where = str(folder / "model.json")
    try:
        preprocessing = validate(SegmentationPreprocessing, facts["preprocessing"], where=where)
        network = _build(facts["architecture"], preprocessing, where)
    except ConfigError as error:
        raise ModelError(error.what, where=error.where, fix="it was written by another version") from None
    weights = folder / "model.safetensors"
    fill(network, read_tensors(weights), weights)
    return Segmenter(network, preprocessing, str(reference), facts).to(device).eval()


def segmenter_folder(reference: str | Path) -> Path:
    """Return the model folder a reference means.

    Raises:
        ModelError: There is none.
    """
    path = Path(reference)
    if not path.exists():
        raise ModelError("there is no such model", where=reference, fix=f"predict takes {GRAMMAR}")
    if (path / "model" / "model.json").is_file():
        return path / "model"
    if not (path / "run.json").is_file():
        return path
    command = json.loads((path / "run.json").read_text(encoding="utf-8")).get("command")
    if command == "adapt" and (path / "checkpoints").is_dir():
        raise ModelError("the run is not finished", where=reference, fix="end it by the same `scanlore adapt`")
    raise ModelError(f"the {command} run holds no segmenter", where=reference, fix=f"predict takes {GRAMMAR}")


def _build(architecture: dict[str, Any], preprocessing: SegmentationPreprocessing, where: str) -> nn.Module:
    backbone = build_backbone(backbone_settings(architecture["backbone"], where), seed=0)
    decoder = architecture["decoder"]
    return backbone if decoder == "unet" else LinearDecoder(backbone, preprocessing.num_classes, decoder["linear"])
