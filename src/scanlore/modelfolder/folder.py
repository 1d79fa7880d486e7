"""The model folder: `model.safetensors`, `model.json` and a model card."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from scanlore.__about__ import __version__
from scanlore.backbones.build import build_backbone
from scanlore.backbones.settings import ViTSettings
from scanlore.config import validate
from scanlore.errors import ConfigError, ModelError
from scanlore.modelfolder.facts import FORMAT_VERSION, read_facts
from scanlore.modelfolder.preprocessing import Preprocessing
from scanlore.run import write_atomically

CARD = """# {name}

A backbone pretrained with [Scanlore](https://pypi.org/project/scanlore/) {version}.

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
    architecture: ViTSettings,
    preprocessing: Preprocessing,
    provenance: dict[str, Any],
    licence: str = "of the one who trained it",
) -> None:
    """Write a model folder; each file is whole or not there.

    Args:
        folder: Where to.
        backbone: Its weights are written in float32 as they are.
        architecture: Settings that rebuild it.
        preprocessing: What turns a scan into its input.
        provenance: Recipe, data and steps it comes from.
        licence: Of the weights; travels with them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in backbone.state_dict().items()}
    write_atomically(folder / "model.safetensors", save(tensors))
    facts = {
        "format_version": FORMAT_VERSION,
        "scanlore": __version__,
        "architecture": architecture.model_dump(mode="json"),
        "preprocessing": preprocessing.model_dump(mode="json"),
        "provenance": provenance,
        "licence": licence,
    }
    card = CARD.format(
        name=architecture.name,
        version=__version__,
        architecture=_listed(facts["architecture"]),
        preprocessing=_listed(facts["preprocessing"]),
        provenance=_listed(provenance),
        licence=licence,
    )
    write_atomically(folder / "README.md", card)
    write_atomically(folder / "model.json", json.dumps(facts, indent=2) + "\n")


def _listed(facts: Any) -> str:
    return ", ".join(f"{key} {value}" for key, value in facts.items() if value not in (None, ""))


def load_model_folder(folder: Path) -> tuple[nn.Module, Preprocessing, dict[str, Any]]:
    """Rebuild a backbone from its folder; every tensor must be there, with its shape.

    Raises:
        ModelError: A file is missing or damaged, or the weights do not fit the architecture.
    """
    facts = read_facts(folder)
    try:
        architecture = validate(ViTSettings, facts["architecture"], where=f"{folder / 'model.json'}")
        preprocessing = validate(Preprocessing, facts["preprocessing"], where=f"{folder / 'model.json'}")
    except ConfigError as error:
        raise ModelError(error.what, where=error.where, fix="it was written by another version") from None
    backbone = build_backbone(architecture, seed=0)
    fill(backbone, _tensors(folder / "model.safetensors"), folder / "model.safetensors")
    return backbone, preprocessing, facts


def _tensors(path: Path) -> dict[str, Tensor]:
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

    Raises:
        ModelError: Something is missing, unexpected or of another shape; nothing is copied then.
    """
    wanted = module.state_dict()
    missing = sorted(wanted.keys() - tensors.keys())
    unexpected = sorted(tensors.keys() - wanted.keys())
    shapes = [name for name in wanted.keys() & tensors.keys() if wanted[name].shape != tensors[name].shape]
    if missing or unexpected or shapes:
        found = {"missing": missing, "unexpected": unexpected, "of another shape": sorted(shapes)}
        listed = "; ".join(f"{len(names)} {kind} ({names[0]} ...)" for kind, names in found.items() if names)
        raise ModelError(f"the weights do not fit the network: {listed}", where=where)
    module.load_state_dict(tensors)
