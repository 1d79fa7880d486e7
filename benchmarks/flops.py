"""Model FLOPs of a step of DINOv2's objective.

Two per multiply-add of the linear layers (patch embedding, blocks, heads) and of the two attention products. A
student's forward and backward pass counts three times its forward, a teacher's forward once; the image head runs on
every [CLS] token (the teacher's on those of global crops), the patch head on hidden patches. What stochastic depth
leaves out does not count, nor do norms, activations, softmax, losses, weight normalisation and the optimiser.
"""

from __future__ import annotations

from itertools import pairwise

from scanlore.registry import BACKBONES
from scanlore.training.settings import PretrainSettings


def backbone_flops(settings: PretrainSettings, views: int, crop: int, drop_path: float = 0.0) -> float:
    """Return FLOPs of one forward pass over cubic or square views."""
    entry, patch, ndim = BACKBONES[settings.backbone.name], settings.backbone.patch_size, settings.backbone.ndim
    patches, dim = (crop // patch) ** ndim, entry.embed_dim
    tokens = patches + 1
    embedding = patches * patch**ndim * dim
    linear = tokens * 12 * dim * dim
    attention = 2 * tokens * tokens * dim
    computed = max(1, int(views * (1 - drop_path)))
    return 2.0 * (views * embedding + computed * entry.depth * (linear + attention))


def head_flops(settings: PretrainSettings, tokens: int) -> float:
    """Return FLOPs of one forward pass of a head."""
    head, dim = settings.method.head, BACKBONES[settings.backbone.name].embed_dim
    widths = [dim, *[head.hidden] * (head.layers - 1), head.bottleneck, head.prototypes]
    return 2.0 * tokens * sum(before * after for before, after in pairwise(widths))


def step_flops(settings: PretrainSettings, hidden: int) -> float:
    """Return model FLOPs of one step.

    Args:
        settings: Of the run.
        hidden: Hidden patches in its batch.
    """
    scans, views, drop = settings.training.batch_size, settings.views, settings.backbone.drop_path
    num_global, num_local = (scans * crops.number for crops in (views.global_crops, views.local_crops))
    on_global = backbone_flops(settings, num_global, views.global_crops.size, drop)
    on_local = backbone_flops(settings, num_local, views.local_crops.size, drop)
    student = on_global + on_local + head_flops(settings, num_global + num_local + hidden)
    teacher = backbone_flops(settings, num_global, views.global_crops.size)
    return 3 * student + teacher + head_flops(settings, num_global + hidden)
