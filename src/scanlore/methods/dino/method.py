"""DINOv2's objective on views of any number of axes: image loss, patch loss, KoLeo, and a moving-average teacher."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from scanlore.backbones.vit import Tokens, ViT
from scanlore.methods.collectives import local_shards
from scanlore.methods.contract import Observed, ParamRule, Progress, has_decay
from scanlore.methods.dino.gram import gram_loss, resized
from scanlore.methods.dino.head import DinoHead, load_heads
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
        if settings.gram:
            self.gram_teacher = copy.deepcopy(self.teacher.backbone)
        self.backbone_rest = (0.0, 0.0)
        for name in ("image_center", "patch_center"):
            self.register_buffer(name, torch.zeros(settings.head.prototypes))

    def train(self, mode: bool = True) -> DinoMethod:
        """Set training mode; the teachers always stay in evaluation mode."""
        super().train(mode)
        self.teacher.eval()
        if self.settings.gram:
            self.gram_teacher.eval()
        return self

    def as_module(self) -> nn.Module:
        """Return the method itself."""
        return self

    def forward(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """Return the weighted loss terms `image_global`, `image_local`, `patch`, `koleo`, and `gram` where it is asked.

        Args:
            batch: With groups `global` (crop-major, two crops), `local` and, for the Gram teacher, `gram`, and masks of
                the global crops.
            progress: For the teacher temperature.
        """
        settings = self.settings
        global_views, local_views = batch.groups["global"].pixels, batch.groups["local"].pixels
        targets = self._targets(global_views, batch.places, progress)
        groups = [global_views] + ([local_views] if len(local_views) else [])
        masks: list[Tensor | None] = [batch.masks, None]
        tokens = self.student.backbone.tokens(groups, masks[: len(groups)])
        num_scans = len(global_views) // GLOBAL_VIEWS
        scores_SBK = self.student.dino_head(torch.cat([t.cls for t in tokens])).unflatten(0, (-1, num_scans))
        from_global, from_local = image_loss(scores_SBK, targets.image, settings.student_temp)
        patch_scores_MK = self.student.patch_head(_take(tokens[0], batch.places))
        patch = patch_loss(patch_scores_MK, targets.patch, batch.weights, len(global_views), settings.student_temp)
        is_gathered, views = settings.koleo == "gathered", tokens[0].cls.chunk(GLOBAL_VIEWS)
        spread = sum((koleo(view, is_gathered) for view in views), start=patch.new_zeros(()))
        return self._anchor(batch, tokens[0].patches) | {
            "image_global": settings.image_weight * from_global,
            "image_local": settings.image_weight * from_local,
            "patch": settings.patch_weight * patch,
            "koleo": settings.koleo_weight * spread,
        }

    def _anchor(self, batch: Batch, patches_BND: Tensor) -> dict[str, Tensor]:
        """Return the weighted term of Gram anchoring, nothing where it is not asked."""
        settings = self.settings.gram
        if settings is None:
            return {}
        views = batch.groups["gram"].pixels
        with torch.no_grad():
            (seen,) = self.gram_teacher.tokens([views])
            patch_size = self.gram_teacher.patch_size
            grids = [[edge // patch_size for edge in v.shape[2:]] for v in (views, batch.groups["global"].pixels)]
            targets_BND = resized(seen.patches, tuple(grids[0]), tuple(grids[1]))
        return {"gram": settings.weight * gram_loss(patches_BND, targets_BND)}

    @torch.no_grad()
    def _targets(self, global_views: Tensor, places_M: Tensor, progress: Progress) -> Targets:
        warmed = progress.ramp(self.settings.teacher_temp_warmup, self.settings.teacher_temp_warmup_steps)
        temp = linear_then_constant(*self.settings.teacher_temp, 1.0, warmed)
        (tokens,) = self.teacher.backbone.tokens([global_views])
        image_NK = self._centred(self.teacher.dino_head(tokens.cls), "image_center", temp)
        patch_MK = self._centred(self.teacher.patch_head(_take(tokens, places_M)), "patch_center", temp)
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
        """Move the teacher towards the student (DINO, section 3.1), and refresh the Gram teacher when it is time."""
        momentum = cosine(*self.settings.momentum, progress.share)
        teacher, student = (local_shards(network.parameters()) for network in (self.teacher, self.student))
        torch._foreach_lerp_(teacher, student, 1 - momentum)
        gram = self.settings.gram
        if gram and gram.is_refreshed(progress.step + 1, progress.num_steps):
            anchors = local_shards(self.gram_teacher.parameters())
            torch._foreach_copy_(anchors, local_shards(self.teacher.backbone.parameters()))

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
                )
            )
        return [self._rested(rule) for rule in rules]

    def _rested(self, rule: ParamRule) -> ParamRule:
        """Return the rule of a parameter with the time for which it does not learn."""
        settings = self.settings
        if rule.part == "backbone":
            share, ramp = self.backbone_rest
            return replace(rule, frozen_share=share, ramp_share=ramp)
        if "last_layer" not in rule.name:
            return rule
        if settings.freeze_last_layer_steps is not None:
            return replace(rule, frozen_steps=settings.freeze_last_layer_steps)
        return replace(rule, frozen_share=settings.freeze_last_layer)

    def heads(self) -> dict[str, Tensor]:
        """Return the tensors of the teacher's heads, e.g. `dino_head.mlp.0.weight`."""
        return {name: t for name, t in self.teacher.state_dict().items() if not name.startswith("backbone.")}

    @torch.no_grad()
    def start_from(self, heads: dict[str, Tensor]) -> None:
        """Load heads into the student, then start every teacher as a copy of it.

        Args:
            heads: Whole heads, as `heads` gave them; a head that is missing stays fresh.

        Raises:
            ModelError: A tensor is missing, unknown or of another shape; nothing was changed.
        """
        load_heads(self.student, heads)
        self.teacher.load_state_dict(self.student.state_dict())
        if self.settings.gram:
            self.gram_teacher.load_state_dict(self.teacher.backbone.state_dict())

    def rest_backbone(self, share: float, ramp: float) -> None:
        """Keep the backbone still for a share of the run; its learning rate then rises linearly over the share `ramp`.

        The teacher, an average of the student, rests with it.
        """
        self.backbone_rest = (share, ramp)

    def exported(self) -> ViT:
        """Return the teacher's backbone, which is the one DINO keeps."""
        return self.teacher.backbone


def build(backbone: ViT, settings: DinoSettings) -> DinoMethod:
    """Build the method around a backbone."""
    return DinoMethod(backbone, settings)


def _take(tokens: Tokens, places_M: Tensor) -> Tensor:
    return tokens.patches.flatten(0, 1).index_select(0, places_M)
