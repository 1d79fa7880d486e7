"""DINOv2's objective on views of any number of axes: image loss, patch loss, KoLeo, and a moving-average teacher."""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
from torch import Tensor, nn

from scanlore.backbones.vit import Tokens, ViT
from scanlore.methods.contract import Observed, ParamRule, Progress, has_decay
from scanlore.methods.dino.head import DinoHead
from scanlore.methods.dino.losses import image_loss, koleo, patch_loss, sinkhorn_knopp, softmax_center, updated_center
from scanlore.methods.dino.settings import DinoSettings
from scanlore.methods.schedules import cosine, linear_then_constant
from scanlore.views.loader import Batch

GLOBAL_VIEWS = 2


class Targets(NamedTuple):
    """What the student is to predict.

    Attributes:
        image: `(T, B, K)`, of the [CLS] tokens of the global views.
        patch: `(M, K)`, of the hidden patches.
    """

    image: Tensor
    patch: Tensor


class HiddenPatches(NamedTuple):
    """Where the hidden patches of a batch are.

    Attributes:
        places: `(M,)` indices into the flattened `(crops * patches)`.
        weights: `(M,)` one over the number of hidden patches of each one's crop.
    """

    places: Tensor
    weights: Tensor


class Network(nn.Module):
    """A backbone with its heads: once as student, once as teacher.

    Args:
        backbone: Anything that gives tokens.
        settings: Of the objective.
    """

    def __init__(self, backbone: ViT, settings: DinoSettings) -> None:
        super().__init__()
        self.backbone = backbone
        self.dino_head = DinoHead(backbone.embed_dim, settings.head)
        if settings.separate_head:
            self.ibot_head = DinoHead(backbone.embed_dim, settings.head)

    @property
    def patch_head(self) -> DinoHead:
        """The head of the patch loss."""
        return self.ibot_head if hasattr(self, "ibot_head") else self.dino_head


class DinoMethod(nn.Module):
    """Student and teacher with their heads.

    Args:
        backbone: The student; the teacher starts as its copy.
        settings: Of the objective.
    """

    def __init__(self, backbone: ViT, settings: DinoSettings) -> None:
        super().__init__()
        self.settings, self.observed = settings, Observed()
        self.student = Network(backbone, settings)
        self.teacher = copy.deepcopy(self.student).requires_grad_(False).eval()
        for name in ("image_center", "patch_center"):
            self.register_buffer(name, torch.zeros(settings.head.prototypes))

    def train(self, mode: bool = True) -> DinoMethod:
        """Set training mode; the teacher always stays in evaluation mode."""
        super().train(mode)
        self.teacher.eval()
        return self

    def as_module(self) -> nn.Module:
        """Return the method itself."""
        return self

    def forward(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """Return the weighted loss terms `image_global`, `image_local`, `patch` and `koleo`.

        Args:
            batch: With groups `global` (crop-major, two crops) and `local`, and masks of the global crops.
            progress: For the teacher temperature.
        """
        settings = self.settings
        global_views, local_views = batch.groups["global"].pixels, batch.groups["local"].pixels
        hidden = hidden_patches(batch.masks)
        targets = self._targets(global_views, hidden, progress)
        groups = [global_views] + ([local_views] if len(local_views) else [])
        masks: list[Tensor | None] = [batch.masks, None]
        tokens = self.student.backbone.tokens(groups, masks[: len(groups)])
        num_scans = len(global_views) // GLOBAL_VIEWS
        scores_SBK = self.student.dino_head(torch.cat([t.cls for t in tokens])).unflatten(0, (-1, num_scans))
        from_global, from_local = image_loss(scores_SBK, targets.image, settings.student_temp)
        patch_scores_MK = self.student.patch_head(_take(tokens[0], hidden))
        patch = patch_loss(patch_scores_MK, targets.patch, hidden.weights, len(global_views), settings.student_temp)
        spread = sum((koleo(view) for view in tokens[0].cls.chunk(GLOBAL_VIEWS)), start=patch.new_zeros(()))
        return {
            "image_global": settings.image_weight * from_global,
            "image_local": settings.image_weight * from_local,
            "patch": settings.patch_weight * patch,
            "koleo": settings.koleo_weight * spread,
        }

    @torch.no_grad()
    def _targets(self, global_views: Tensor, hidden: HiddenPatches, progress: Progress) -> Targets:
        temp = linear_then_constant(*self.settings.teacher_temp, self.settings.teacher_temp_warmup, progress.share)
        (tokens,) = self.teacher.backbone.tokens([global_views])
        image_NK = self._centred(self.teacher.dino_head(tokens.cls), "image_center", temp)
        patch_MK = self._centred(self.teacher.patch_head(_take(tokens, hidden)), "patch_center", temp)
        entropy = -(image_NK * image_NK.clamp_min(1e-12).log()).sum(-1).mean()
        self.observed = Observed({"teacher_entropy": entropy})
        return Targets(image_NK.unflatten(0, (GLOBAL_VIEWS, -1)), patch_MK)

    def _centred(self, scores: Tensor, center_name: str, temp: float) -> Tensor:
        if self.settings.centering == "sinkhorn":
            return sinkhorn_knopp(scores, temp, self.settings.sinkhorn_iterations)
        center: Tensor = getattr(self, center_name)
        targets = softmax_center(scores, center, temp)
        if self.training:
            center.copy_(updated_center(center, scores, self.settings.center_momentum))
        return targets

    @torch.no_grad()
    def after_step(self, progress: Progress) -> None:
        """Move the teacher towards the student (DINO, section 3.1)."""
        momentum = cosine(*self.settings.momentum, progress.share)
        teacher: list[Tensor] = list(self.teacher.parameters())
        student: list[Tensor] = list(self.student.parameters())
        torch._foreach_lerp_(teacher, student, 1 - momentum)

    def param_rules(self) -> list[ParamRule]:
        """Return the rules of the student's parameters; each network part is clipped on its own."""
        backbone = self.student.backbone
        top = backbone.num_layers + 1
        rules = []
        for name, _ in self.student.named_parameters():
            part, inner = name.split(".", 1)
            is_backbone = part == "backbone"
            rules.append(
                ParamRule(
                    name=f"student.{name}",
                    part=part,
                    layers_above=top - backbone.layer_id(inner) if is_backbone else 0,
                    is_patch_embed=is_backbone and inner.startswith("patch_embed."),
                    decay=has_decay(inner),
                    frozen_share=self.settings.freeze_last_layer if "last_layer" in inner else 0.0,
                )
            )
        return rules

    def exported(self) -> ViT:
        """Return the teacher's backbone, which is the one DINO keeps."""
        return self.teacher.backbone


def build(backbone: ViT, settings: DinoSettings) -> DinoMethod:
    """Build the method around a backbone."""
    return DinoMethod(backbone, settings)


def hidden_patches(masks: Tensor) -> HiddenPatches:
    """Locate the hidden patches of `(crops, patches)` masks."""
    places = masks.flatten().nonzero().flatten()
    per_crop = masks.sum(1).clamp_min(1)
    return HiddenPatches(places, (1.0 / per_crop).repeat_interleave(masks.sum(1)))


def _take(tokens: Tokens, hidden: HiddenPatches) -> Tensor:
    return tokens.patches.flatten(0, 1).index_select(0, hidden.places)
