"""`scanlore recipes|models list|show`: what can be asked for, without importing torch."""

from __future__ import annotations

from typing import Any

from scanlore.config import load_recipe, recipe_names
from scanlore.errors import ModelError, nearest
from scanlore.registry import BACKBONES

REFERENCES = [
    {"reference": "PATH", "meaning": "a model folder, or a run folder that holds one"},
    {"reference": "RUN@STEP", "meaning": "a pretraining run at one of its exports or checkpoints"},
    {"reference": "random:NAME", "meaning": "an untrained network of a name below"},
    {"reference": "random:PATH", "meaning": "an untrained network like the model at PATH: its fair baseline"},
    {"reference": "pixels:EDGE", "meaning": "the scan itself resized to EDGE voxels: the floor"},
    {
        "reference": "dinov2:NAME",
        "meaning": "Meta's DINOv2, downloaded: vits14, vitb14, vitl14, vitg14, vits14_reg ...",
    },
    {"reference": "dinov2:FILE", "meaning": "such weights in a file: Meta's, timm's, transformers', of training runs"},
    {"reference": "3dino:FILE", "meaning": "3DINO-ViT as its authors give it"},
    {"reference": "timm:NAME", "meaning": "a DINOv2 model of timm, downloaded"},
    {"reference": "hf:ORG/NAME", "meaning": "a DINOv2 model of transformers, downloaded; hf:FOLDER where it is here"},
]

PUBLISHED = ("dinov2", "3dino", "timm", "hf")


def list_recipes() -> list[dict[str, Any]]:
    """Return name, kind and description of the shipped recipes."""
    return [
        {"recipe": name, "for": kind, "description": load_recipe(name, kind).get("description", "")}
        for kind in ("pretrain", "adapt")
        for name in recipe_names(kind)
    ]


def show_recipe(name: str) -> dict[str, Any]:
    """Return a recipe with every default filled in.

    Raises:
        ConfigError: There is no such recipe.
    """
    if name in recipe_names("adapt"):
        from scanlore.adaptation.settings import protocol_settings

        protocol = load_recipe(name, "adapt")["protocol"]
        return protocol_settings(protocol, name).model_dump(mode="json")
    from scanlore.training.stages import read_stages

    stages = read_stages(name)
    shown = {stage.name: stage.settings.model_dump(mode="json") for stage in stages}
    for stage in stages[1:]:
        shown[stage.name]["start_step"] = stage.start_step
    return {"stages": shown} if stages[0].name else shown[""]


def list_models() -> list[dict[str, Any]]:
    """Return the registered backbones."""
    return [
        {
            "name": name,
            "width": entry.embed_dim,
            "depth": entry.depth,
            "heads": entry.num_heads or None,
            "note": entry.note,
        }
        for name, entry in BACKBONES.items()
    ]


def show_model(name: str) -> dict[str, Any]:
    """Return what is known of a backbone, a model folder, a run, or published weights and how they were read.

    Raises:
        ModelError: There is no such model.
    """
    from dataclasses import asdict
    from pathlib import Path

    name = name.removeprefix("random:") if name.removeprefix("random:") in BACKBONES else name
    if name in BACKBONES:
        return {"name": name} | {key: value for key, value in asdict(BACKBONES[name]).items() if value}
    path = Path(name)
    for folder in (path / "model", path):
        if (folder / "model.json").is_file():
            from scanlore.modelfolder.facts import read_facts

            return read_facts(folder)
    if not path.exists() and (name.partition(":")[0] in PUBLISHED or "@" in name):
        from scanlore.modelfolder.weights import describe

        return describe(name)
    known = list(BACKBONES)
    fix = f"names: {', '.join(known)}; or a model folder{nearest(name, known)}"
    raise ModelError("there is no such model", where=name, fix=fix)
