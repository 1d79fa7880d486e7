"""The model folder: `model.safetensors`, `model.json` and a model card."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from scanlore.__about__ import __version__
from scanlore.backbones.build import build_backbone
from scanlore.backbones.settings import ResEncSettings, ViTSettings, backbone_settings
from scanlore.backbones.unique import spellings, unique_state
from scanlore.config import flatten, validate
from scanlore.errors import ConfigError, ModelError
from scanlore.modelfolder.facts import FORMAT_VERSION, read_backbone_facts
from scanlore.modelfolder.preprocessing import Preprocessing
from scanlore.run import write_atomically

HEADS = "heads.safetensors"
OWN_LICENCE = "of the one who trained it"
CARD = """# {name}

A backbone pretrained with Scanlore {version}.

- Architecture: {architecture}
- Pretraining: {provenance}
- Preprocessing: {preprocessing}
- Licence of the weights: {licence}

```python
import scanlore

model = scanlore.load_model("PATH/OF/THIS/FOLDER")
embeddings = model.embed(["scan.nii.gz"])
```

Not a medical device. Not for clinical decisions.
"""


def save_model_folder(
    folder: Path,
    backbone: nn.Module,
    architecture: ViTSettings | ResEncSettings,
    preprocessing: Preprocessing,
    provenance: dict[str, Any],
    licence: str = OWN_LICENCE,
    heads: dict[str, Tensor] | None = None,
) -> None:
    """Write a model folder; each file is whole or not there.

    Args:
        folder: Where to.
        backbone: Its weights are written in float32 as they are.
        architecture: Settings that rebuild it.
        preprocessing: What turns a scan into its input.
        provenance: Recipe, data and steps it comes from.
        licence: Of the weights; travels with them.
        heads: What a later stage starts from besides the backbone; nobody else needs it.
    """
    if heads:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / HEADS, save({name: t.detach().cpu().contiguous() for name, t in heads.items()}))
    facts = {
        "architecture": architecture.model_dump(mode="json"),
        "preprocessing": preprocessing.model_dump(mode="json"),
        "provenance": provenance,
        "licence": licence,
    }
    write_model(folder, backbone, facts, CARD, name=architecture.name)


def write_model(folder: Path, network: nn.Module, facts: dict[str, Any], card: str, **words: str) -> None:
    """Write weights, model card and, last, what makes them a model: `model.json`.

    Args:
        folder: Where to.
        network: Its weights are written in float32 as they are.
        facts: Of `model.json`, with architecture, preprocessing, provenance and licence.
        card: The text of the model card, with places for these facts and for `words`.
        words: What else the card says.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(folder / "model.safetensors", network)
    listed = {key: _listed(value) if isinstance(value, dict) else value for key, value in facts.items()}
    write_atomically(folder / "README.md", card.format(version=__version__, **listed, **words))
    stamped = {"format_version": FORMAT_VERSION, "scanlore": __version__, **facts}
    write_atomically(folder / "model.json", json.dumps(stamped, indent=2) + "\n")


def write_tensors(path: Path, module: nn.Module) -> None:
    """Write the weights of a module, each tensor once, under its first name; the file is whole or not there."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in unique_state(module).items()}
    write_atomically(path, save(tensors))


def _listed(facts: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in flatten(facts).items() if value not in (None, "", []))


def load_model_folder(folder: Path) -> tuple[nn.Module, Preprocessing, dict[str, Any]]:
    """Rebuild a backbone from its folder; every tensor must be there, with its shape.

    Raises:
        ModelError: A file is missing or damaged, or the weights do not fit the architecture.
    """
    facts = read_backbone_facts(folder)
    try:
        architecture = backbone_settings(facts["architecture"], where=f"{folder / 'model.json'}")
        preprocessing = validate(Preprocessing, facts["preprocessing"], where=f"{folder / 'model.json'}")
    except ConfigError as error:
        raise ModelError(error.what, where=error.where, fix="it was written by another version") from None
    path = folder / "model.safetensors"
    return network_of(architecture, read_tensors(path), path), preprocessing, facts


def network_of(architecture: ViTSettings | ResEncSettings, tensors: dict[str, Tensor], where: object) -> nn.Module:
    """Build a network from its weights, which `fill` checks.

    Raises:
        ModelError: They do not fit.
    """
    if isinstance(architecture, ResEncSettings):
        network: nn.Module = build_backbone(architecture, seed=0)
    else:
        with torch.device("meta"):  # every tensor is filled: first weights would be drawn for nothing
            network = build_backbone(architecture)
        network = network.to_empty(device="cpu")
    fill(network, tensors, where)
    return network


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a file of weights.

    Raises:
        ModelError: It is missing or damaged.
    """
    if not path.is_file():
        raise ModelError("the model folder has no model.safetensors", where=path.parent, fix="copy it again, whole")
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"is damaged: {reason}", where=path, fix="copy the model folder again, whole") from None
    return tensors


def fill(module: nn.Module, tensors: dict[str, Tensor], where: object) -> None:
    """Copy weights into a module after comparing every name and shape.

    Args:
        module: What to fill; twins stay tied.
        tensors: By any of the names of each tensor. Where two names of one tensor hold different values, the one below
            `all_modules` counts: networks with untied twins compute with that one.
        where: What to call the weights in a message.

    Raises:
        ModelError: Something is missing, unexpected or of another shape; nothing is copied then.
    """
    names, wanted = spellings(module), unique_state(module)
    given = {first: _given(same, tensors) for first, same in names.items()}
    missing = sorted(first for first, name in given.items() if name is None)
    unexpected = sorted(tensors.keys() - {name for same in names.values() for name in same})
    chosen = {first: tensors[name] for first, name in given.items() if name is not None}
    shapes = sorted(first for first, tensor in chosen.items() if wanted[first].shape != tensor.shape)
    if missing or unexpected or shapes:
        found = {"missing": missing, "unexpected": unexpected, "of another shape": shapes}
        listed = "; ".join(f"{len(some)} {kind} ({some[0]} ...)" for kind, some in found.items() if some)
        raise ModelError(f"the weights do not fit the network: {listed}", where=where)
    for first, tensor in chosen.items():
        wanted[first].copy_(tensor)


def _given(names: list[str], tensors: dict[str, Tensor]) -> str | None:
    """Return which of the names of a tensor to take, `None` where none is given."""
    found = [name for name in names if name in tensors]
    return next((name for name in found if "all_modules." in name), found[0] if found else None)
