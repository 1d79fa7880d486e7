from itertools import pairwise

import pytest

from scanlore.config import flatten, load_recipe, recipe_names, validate
from scanlore.registry import BACKBONES
from scanlore.training.settings import PretrainSettings
from scanlore.training.stages import read_stages

NAMES = [name for name in recipe_names("pretrain") if "stages" not in load_recipe(name, "pretrain")]
STAGED = sorted(set(recipe_names("pretrain")) - set(NAMES))

# 3DINO's default configuration, its key first; epochs are 1,250 steps.
PUBLISHED = {
    "train.data_min_axis_size": ("data.slices_above", 24),
    "train.seed": ("seed", 0),
    "dino.loss_weight": ("method.image_weight", 1.0),
    "dino.koleo_loss_weight": ("method.koleo_weight", 0.1),
    "ibot.loss_weight": ("method.patch_weight", 1.0),
    "dino.head_n_prototypes": ("method.head.prototypes", 65536),
    "dino.head_bottleneck_dim": ("method.head.bottleneck", 256),
    "dino.head_nlayers": ("method.head.layers", 3),
    "dino.head_hidden_dim": ("method.head.hidden", 2048),
    "ibot.separate_head": ("method.separate_head", True),
    "ibot.mask_sample_probability": ("views.masks.share", 0.5),
    "ibot.mask_ratio_min_max": ("views.masks.ratio", (0.2, 0.75)),
    "train.centering": ("method.centering", "sinkhorn"),
    "sinkhorn iterations": ("method.sinkhorn_iterations", 3),
    "student temperature": ("method.student_temp", 0.1),
    "train.batch_size_per_gpu x 4": ("training.batch_size", 512),
    "optim.epochs x train.OFFICIAL_EPOCH_LENGTH": ("training.steps", 125_000),
    "student.arch": ("backbone.name", "vit-large"),
    "student.patch_size": ("backbone.patch_size", 16),
    "student.drop_path_rate": ("backbone.drop_path", 0.3),
    "student.layerscale": ("backbone.layer_scale", 1e-5),
    "register tokens": ("backbone.num_registers", 0),
    "in_chans": ("backbone.in_channels", 1),
    "ndim": ("backbone.ndim", 3),
    "pos_embed made for": ("backbone.image_size", 96),
    "teacher.momentum_teacher, final": ("method.momentum", (0.992, 1.0)),
    "teacher.warmup_teacher_temp, teacher_temp": ("method.teacher_temp", (0.04, 0.07)),
    "teacher.warmup_teacher_temp_epochs / epochs": ("method.teacher_temp_warmup", 30 / 100),
    "optim.weight_decay, end": ("optim.weight_decay", (0.04, 0.4)),
    "optim.base_lr": ("optim.lr", 0.002),
    "optim.scaling_rule": ("optim.lr_rule", "sqrt-1024"),
    "optim.warmup_epochs / epochs": ("optim.warmup", 10 / 100),
    "optim.min_lr": ("optim.min_lr", 1e-6),
    "optim.clip_grad": ("optim.clip", 3.0),
    "optim.freeze_last_layer_epochs / epochs": ("method.freeze_last_layer", 1 / 100),
    "optim.patch_embed_lr_mult": ("optim.patch_embed_lr", 0.2),
    "optim.layerwise_decay": ("optim.layer_decay", 0.9),
    "optim.adamw_beta1, beta2": ("optim.betas", (0.9, 0.999)),
    "crops.global number": ("views.global_crops.number", 2),
    "crops.global in-slice scale": ("views.global_crops.area", (0.48, 1.0)),
    "crops.global cross-slice scale": ("views.global_crops.length", (0.5, 1.0)),
    "crops.global_crops_size": ("views.global_crops.size", 96),
    "crops.local number": ("views.local_crops.number", 8),
    "crops.local in-slice scale": ("views.local_crops.area", (0.16, 0.48)),
    "crops.local cross-slice scale": ("views.local_crops.length", (0.2, 0.5)),
    "crops.local_crops_size": ("views.local_crops.size", 48),
    "aspect": ("views.aspect", (0.9, 1 / 0.9)),
    "intensity percentiles": ("views.scaling", "percentile-0.05-99.95"),
    "RandFlip": ("views.flip", 0.3),
    "RandRotate90": ("views.quarter_turn", 0.3),
    "checkpoints kept": ("training.keep_checkpoints", 3),
}


def settings_of(name):
    return validate(PretrainSettings, load_recipe(name, "pretrain"), where=name)


@pytest.fixture(scope="module")
def large():
    return settings_of("3dino-vit-l")


@pytest.mark.parametrize("published", PUBLISHED)
def test_3dino_vit_l_is_the_published_configuration(large, published):
    key, value = PUBLISHED[published]
    assert flatten(large.model_dump())[key] == value


def test_3dino_vit_l_derived_values(large):
    entry = BACKBONES["vit-large"]
    assert (entry.embed_dim, entry.depth, entry.num_heads, entry.ffn) == (1024, 24, 16, "mlp")
    assert large.optim.peak_lr(512) == pytest.approx(1.414e-3, rel=1e-3)
    assert large.optim.peak_lr(1024) == 2e-3
    shares = (large.method.teacher_temp_warmup, large.optim.warmup, large.method.freeze_last_layer)
    assert [share * large.training.steps for share in shares] == [37_500, 12_500, 1_250]


HIGHRES = {
    "train.data_min_axis_size": ("data.slices_above", 48),
    "train.batch_size_per_gpu x 4": ("training.batch_size", 256),
    "optim.epochs x train.OFFICIAL_EPOCH_LENGTH": ("training.steps", 12_500),
    "optim.base_lr": ("optim.lr", 0.001),
    "pos_embed made for": ("backbone.image_size", 112),
    "crops.global_crops_size": ("views.global_crops.size", 112),
    "crops.local_crops_size": ("views.local_crops.size", 64),
}


@pytest.mark.parametrize("published", PUBLISHED)
def test_the_high_resolution_stage_differs_in_what_is_published_alone(published):
    key, value = HIGHRES.get(published, PUBLISHED[published])
    assert flatten(settings_of("3dino-vit-l-highres").model_dump())[key] == value


# MediDino: section 5.1 and its public configuration, as far as it differs from DINOv2's; 100 steps are an epoch.
MEDIDINO = {
    "start.weights": "dinov2:vits14",
    "backbone.name": "vit-small",
    "backbone.patch_size": 14,
    "backbone.drop_path": 0.4,
    "backbone.drop_path_uniform": False,
    "method.centering": "sinkhorn",
    "method.momentum": (0.994, 1.0),
    "optim.lr": 2e-4,
    "optim.lr_rule": "sqrt-1024",
    "optim.weight_decay": (0.04, 0.2),
    "views.global_crops.size": 224,
    "views.local_crops.size": 98,
    "views.flip": 0.5,
    "training.batch_size": 256,
    "training.steps": 20_000,
}


def test_dinov2_vit_s14_is_medidino_s_configuration():
    found = flatten(settings_of("dinov2-vit-s14").model_dump())
    assert {key: found[key] for key in MEDIDINO} == MEDIDINO


@pytest.mark.parametrize("name", STAGED)
def test_every_stage_but_the_first_continues_a_network_that_fits(name):
    stages = [stage.settings.backbone for stage in read_stages(name)]
    assert len({(one.name, one.ndim, one.patch_size, one.num_registers) for one in stages}) == 1


@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_validates_and_says_where_it_is_from(name):
    settings = settings_of(name)
    assert settings.description
    assert settings.source


# S3D: section 3 "Default parameters" and Table 1; what the paper leaves open is from its public code.
S3D = {
    "views.size": 160,
    "views.spacing": 1.0,
    "views.scaling": "zscore",
    "views.rotation_probability": 0.2,
    "views.rotation_degrees": 30.0,
    "views.scale_probability": 0.2,
    "views.scale": (0.7, 1.4),
    "views.flip": 0.5,
    "views.outside": 0.0,
    "views.masks.block": 16,
    "views.masks.ratio": (0.6, 0.9),
    "backbone.name": "resenc-l",
    "backbone.in_channels": 1,
    "optim.name": "sgd",
    "optim.lr": 1e-2,
    "optim.momentum": 0.99,
    "optim.weight_decay": 3e-5,
    "optim.power": 0.9,
    "optim.warmups": (),
    "optim.clip": 12.0,
    "training.batch_size": 6,
    "training.steps": 250_000,
    "data.slices_above": 0,
}
METHOD = {"method.name": "s3d", "method.sparse": True, "method.mask_token": True, "method.densify": True}
DENSE = {"method.name": "mae", "views.masks.ratio": (0.75, 0.75)}
LARGE = {"optim.lr": 3e-2, "training.batch_size": 48, "training.steps": 1_000_000}


@pytest.mark.parametrize(
    ("name", "published"),
    [("s3d-b", S3D | METHOD), ("s3d-l", S3D | METHOD | LARGE), ("mae-resenc", S3D | DENSE)],
)
def test_s3d_and_its_base_are_the_published_configuration(name, published):
    found = flatten(settings_of(name).model_dump())
    assert {key: found[key] for key in published} == published


@pytest.mark.parametrize("name", [name for name in NAMES if "dino" in name])
def test_crops_are_multiples_of_the_patch_and_of_the_right_size(name):
    settings = settings_of(name)
    views, patch = settings.views, settings.backbone.patch_size
    assert views.global_crops.size % patch == views.local_crops.size % patch == 0
    assert views.global_crops.size == settings.backbone.image_size
    assert views.local_crops.size < views.global_crops.size


@pytest.mark.parametrize("name", NAMES)
def test_the_last_step_is_looked_at_and_checkpoints_are_regular(name):
    training = settings_of(name).training
    assert training.steps % training.checkpoint_every == 0


def test_recipes_differ():
    dumped = [flatten(settings_of(name).model_dump()) for name in NAMES]
    assert all(one != other for one, other in pairwise(dumped))
