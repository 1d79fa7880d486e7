"""A pretraining recipe small enough for tests, and the parts it is made of."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch

from scanlore.config import apply_overrides, validate
from scanlore.training.settings import PretrainSettings

RECIPE: dict[str, Any] = {
    "views": {
        "ndim": 3,
        "global_crops": {"number": 2, "size": 16, "area": [0.48, 1.0], "length": [0.5, 1.0]},
        "local_crops": {"number": 2, "size": 8, "area": [0.16, 0.48], "length": [0.2, 0.5]},
    },
    "backbone": {"name": "vit-tiny", "ndim": 3, "patch_size": 8, "image_size": 16, "layer_scale": 0.1},
    "method": {"head": {"prototypes": 64, "bottleneck": 16, "hidden": 32}},
    "optim": {"layer_decay": 1.0},
    "training": {"steps": 6, "batch_size": 4, "checkpoint_every": 2, "num_workers": 0, "precision": "fp32"},
    "health": {"every": 3, "scans": 6},
}
RECIPE_2D = copy.deepcopy(RECIPE)
RECIPE_2D["views"] |= {"ndim": 2, "quarter_turn": 0.0}
RECIPE_2D["backbone"] |= {"ndim": 2}


def tiny_settings(*overrides: str, ndim: int = 3) -> PretrainSettings:
    """Return the recipe's settings with dotted overrides."""
    recipe = RECIPE if ndim == 3 else RECIPE_2D
    return validate(PretrainSettings, apply_overrides(recipe, overrides), where="tiny")


def tiny_method(settings: PretrainSettings) -> Any:
    """Build the method of a recipe with its seed."""
    from scanlore.backbones.build import build_backbone
    from scanlore.methods.build import build_method

    return build_method(build_backbone(settings.backbone, settings.seed), settings.method, settings.seed)


def random_batch(settings: PretrainSettings, num_scans: int = 2, seed: int = 0) -> Any:
    """Return a batch of noise with the view sizes of a recipe."""
    import numpy as np

    from scanlore.views.loader import Batch, ViewGroup
    from scanlore.views.masks import sample_masks
    from scanlore.views.policy import build_policy

    generator = torch.Generator().manual_seed(seed)
    views, groups = settings.views, {}
    policy = build_policy(views, seed, settings.backbone.patch_size)
    for name, (count, shape) in policy.group_sizes().items():
        pixels = torch.randn((count * num_scans, 1, *shape), generator=generator)
        empty = torch.empty(0)
        groups[name] = ViewGroup(pixels, empty, empty, empty, empty)
    num_patches = (views.global_crops.size // settings.backbone.patch_size) ** views.ndim
    masks = sample_masks(np.random.default_rng(seed), 2 * num_scans, num_patches, views.masks)
    return Batch(0, [f"{index}" for index in range(num_scans)], groups, torch.from_numpy(masks))


def tiny_plan(corpus: Path, settings: PretrainSettings, rank: int = 0, world_size: int = 1) -> Any:
    """Return the loader plan of a recipe on a corpus."""
    from scanlore.corpus.index import Corpus
    from scanlore.views.loader import LoaderPlan
    from scanlore.views.policy import build_policy

    size = settings.training.batch_size // (world_size * settings.training.passes)
    policy = build_policy(settings.views, settings.seed, settings.backbone.patch_size)
    scans = Corpus(corpus).select(ndim=3 if settings.views.ndim == 3 else None)
    return LoaderPlan(scans, policy, size, rank, world_size)


def loop_plan(settings: PretrainSettings) -> Any:
    """Return what the loop needs of the settings."""
    from scanlore.training.loop import LoopPlan

    every, anchor = settings.health.every, settings.start.anchor
    return LoopPlan(settings.training, settings.optim, settings.seed, every, settings.parallel, anchor=anchor)


def on_cpu(batch: Any) -> Any:
    """Prepare a batch for training on the CPU."""
    from scanlore.views.loader import to_device

    return to_device(batch, torch.device("cpu"), clip=True)


def tiny_train(corpus: Path, settings: PretrainSettings, out: Path, rank: int = 0, world_size: int = 1) -> Any:
    """Train without the verb; returns the method."""
    from scanlore.training.loop import Callbacks, train
    from scanlore.training.parallel import World
    from scanlore.views.loader import batches

    out.mkdir(parents=True, exist_ok=True)
    method, plan = tiny_method(settings), tiny_plan(corpus, settings, rank, world_size)
    world = World(rank, world_size, torch.device("cpu"))
    loader, silent = (lambda first, stop: batches(plan, first, stop, 0)), (lambda values, timings: None)
    train(method, loop_plan(settings), out, world, Callbacks(loader, on_cpu, None, silent))
    return method
