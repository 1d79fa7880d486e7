import math
from dataclasses import replace

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from scanlore.backbones.device import autocast
from scanlore.methods.contract import Progress
from scanlore.methods.dino.losses import image_loss, koleo, sinkhorn_knopp
from scanlore.registry import BACKBONES, BackboneEntry
from scanlore.training.optimizer import build_optimizer, set_schedules
from tiny_pretraining import random_batch, tiny_method, tiny_settings

START = Progress(0, 10)
TERMS = {"image_global", "image_local", "patch", "koleo"}


@pytest.fixture(autouse=True)
def small_vit(monkeypatch):
    monkeypatch.setitem(BACKBONES, "vit-tiny", BackboneEntry("vit", 24, 2, 3))


def run(*overrides, ndim=3, step=0):
    settings = tiny_settings(*overrides, ndim=ndim)
    method = tiny_method(settings).train()
    terms = method(random_batch(settings), Progress(step, 10))
    return method, terms


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["method.separate_head=false"],
        ["method.centering=softmax"],
        ["backbone.drop_path=0.5"],
        ["backbone.num_registers=2"],
    ],
)
def test_every_student_parameter_learns_and_no_teacher_parameter(ndim, overrides):
    method, terms = run(*overrides, ndim=ndim)
    assert terms.keys() == TERMS
    assert all(term.isfinite() for term in terms.values())
    sum(terms.values()).backward()
    for name, parameter in method.student.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name
    assert all(parameter.grad is None for parameter in method.teacher.parameters())


def test_without_local_crops():
    _, terms = run("views.local_crops.number=0")
    assert float(terms["image_local"].detach()) == 0
    assert float(terms["image_global"].detach()) > 0


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("centering", ["sinkhorn", "softmax"])
def test_without_masks(centering, precision):
    with autocast(precision, torch.device("cpu")):
        method, terms = run("views.masks.share=0", f"method.centering={centering}")
    assert float(terms["patch"].detach()) == 0
    sum(terms.values()).backward()  # every rank must have a gradient for every parameter
    assert all(parameter.grad.isfinite().all() for parameter in method.student.parameters())
    assert all(buffer.isfinite().all() for buffer in method.buffers())


def test_terms_are_weighted():
    _, once = run()
    _, twice = run("method.image_weight=2", "method.patch_weight=3", "method.koleo_weight=0.5")
    factors = {"image_global": 2, "image_local": 2, "patch": 3, "koleo": 5}
    for name, factor in factors.items():
        torch.testing.assert_close(twice[name], factor * once[name])


def test_terms_are_the_losses_of_these_outputs():
    settings = tiny_settings()
    method, batch = tiny_method(settings), random_batch(settings)
    terms = method(batch, START)
    crops, masks = batch.groups["global"].pixels, batch.masks
    student, teacher = method.student, method.teacher
    (seen,), (masked,) = teacher.backbone.tokens([crops]), student.backbone.tokens([crops], [masks])
    targets = sinkhorn_knopp(teacher.dino_head(seen.cls), 0.04, 3).unflatten(0, (2, -1))
    (local,) = student.backbone.tokens([batch.groups["local"].pixels])
    scores = student.dino_head(torch.cat([masked.cls, local.cls])).unflatten(0, (-1, 2))
    expected = image_loss(scores, targets, 0.1)
    torch.testing.assert_close((terms["image_global"], terms["image_local"]), expected)
    patch_targets = sinkhorn_knopp(teacher.ibot_head(seen.patches[masks]), 0.04, 3)
    entropy = -(patch_targets * (student.ibot_head(masked.patches[masks]) / 0.1).log_softmax(-1)).sum(-1)
    per_crop = [part.mean() for part in entropy.split(masks.sum(1).tolist()) if len(part)]
    torch.testing.assert_close(terms["patch"], sum(per_crop) / len(crops))
    torch.testing.assert_close(terms["koleo"], 0.1 * (koleo(masked.cls[:2]) + koleo(masked.cls[2:])))


def test_the_student_does_not_see_hidden_patches():
    settings = tiny_settings("method.image_weight=0", "method.koleo_weight=0")
    method = tiny_method(settings).train()
    batch = random_batch(settings)
    batch.groups["global"].pixels.requires_grad_()
    masks = torch.zeros_like(batch.masks)
    masks[0] = True
    batch = replace(batch, masks=masks)
    method(batch, START)["patch"].backward()
    assert not batch.groups["global"].pixels.grad.any()


def test_the_teacher_starts_as_the_student_and_stays_in_evaluation_mode():
    method = tiny_method(tiny_settings()).train()
    assert method.student.training
    assert not any(module.training for module in method.teacher.modules())
    for student, teacher in zip(method.student.parameters(), method.teacher.parameters(), strict=True):
        assert torch.equal(student, teacher)
        assert not teacher.requires_grad


@pytest.mark.parametrize(("step", "momentum"), [(0, 0.992), (5, 0.996), (10, 1.0)])
def test_after_step_moves_the_teacher_towards_the_student(step, momentum):
    method = tiny_method(tiny_settings())
    before = [parameter.clone() for parameter in method.teacher.parameters()]
    with torch.no_grad():
        for parameter in method.student.parameters():
            parameter.add_(torch.randn_like(parameter))
    method.after_step(Progress(step, 10))
    for old, student, teacher in zip(before, method.student.parameters(), method.teacher.parameters(), strict=True):
        torch.testing.assert_close(teacher, momentum * old + (1 - momentum) * student.detach())


def test_softmax_centres_are_saved_and_change_only_in_training():
    method, _ = run("method.centering=softmax")
    state = method.state_dict()
    assert state["image_center"].any()
    assert state["patch_center"].any()
    other = tiny_method(tiny_settings("method.centering=softmax")).eval()
    other.load_state_dict(state)
    other(random_batch(tiny_settings()), START)
    assert torch.equal(other.image_center, state["image_center"])


def test_teacher_temperature_rises():
    entropies = [float(run(step=step)[0].observed.values["teacher_entropy"]) for step in (0, 3)]
    assert 0 <= entropies[0] < entropies[1] <= math.log(64)


def test_teacher_temperature_rises_over_steps():
    steps = ["method.teacher_temp_warmup_steps=3"]
    risen, rising = (run(*steps, step=step)[0].observed.values["teacher_entropy"] for step in (3, 2))
    assert float(rising) < float(risen)
    assert risen == run(*steps, step=9)[0].observed.values["teacher_entropy"]


def test_heads_depend_on_the_seed_and_leave_global_randomness_alone():
    before = torch.get_rng_state()
    first, same, other = (tiny_method(tiny_settings(f"seed={seed}")).state_dict() for seed in (1, 1, 2))
    name = "student.dino_head.mlp.0.weight"
    assert torch.equal(first[name], same[name])
    assert not torch.equal(first[name], other[name])
    assert torch.equal(before, torch.get_rng_state())


def test_exported_is_the_teacher():
    method = tiny_method(tiny_settings())
    assert method.exported() is method.teacher.backbone


@pytest.mark.parametrize(
    "overrides", [["backbone.drop_path=0.5"], ["method.centering=softmax"], ["method.gram={}", "views.gram_size=32"]]
)
def test_a_step_needs_no_values(overrides):
    """Shapes are known before the device has computed anything: no waiting for it, and a plan without memory."""
    settings = tiny_settings(*overrides)
    method, batch = tiny_method(settings).train(), random_batch(settings)
    with FakeTensorMode(allow_non_fake_inputs=True):
        terms = method(batch, START)
        torch.stack(list(terms.values())).sum().backward()
        method.after_step(START)
    assert terms.keys() >= TERMS


@pytest.fixture
def deep(monkeypatch):
    """A network of 24 narrow blocks, and its optimiser with 3DINO's values."""
    monkeypatch.setitem(BACKBONES, "vit-tiny", BackboneEntry("vit", 24, 24, 3))
    settings = tiny_settings("optim.layer_decay=0.9")
    method = tiny_method(settings)
    return method, settings, build_optimizer(method, method.param_rules(), settings.optim)


def lr_and_decay(deep, step):
    method, settings, optimizer = deep
    lr = set_schedules(optimizer, settings.optim, settings.training.batch_size, Progress(step, 1000))["lr"]
    names = {parameter: name for name, parameter in method.named_parameters()}
    return {
        names[parameter]: (group["lr"] / lr, group["weight_decay"])
        for group in optimizer.param_groups
        for parameter in group["params"]
    }


def test_there_is_one_rule_for_every_trainable_parameter(deep):
    method = deep[0]
    names = [rule.name for rule in method.param_rules()]
    assert len(names) == len(set(names))
    assert set(names) == {name for name, parameter in method.named_parameters() if parameter.requires_grad}
    assert {rule.part for rule in method.param_rules()} == {"backbone", "dino_head", "ibot_head"}


@pytest.mark.parametrize(
    ("name", "multiplier"),
    [
        ("backbone.cls_token", 0.0718),
        ("backbone.pos_embed", 0.0718),
        ("backbone.mask_token", 0.0718),
        ("backbone.patch_embed.proj.weight", 0.01436),
        ("backbone.patch_embed.proj.bias", 0.01436),
        ("backbone.blocks.0.attn.qkv.weight", 0.0798),
        ("backbone.blocks.23.mlp.fc2.bias", 0.9),
        ("backbone.norm.weight", 1.0),
        ("dino_head.mlp.0.weight", 1.0),
        ("ibot_head.last_layer.weight_v", 1.0),
    ],
)
def test_learning_rate_multipliers_of_3dino(deep, name, multiplier):
    assert lr_and_decay(deep, 500)[f"student.{name}"][0] == pytest.approx(multiplier, rel=1e-3)


def test_biases_norms_and_layer_scales_are_not_decayed(deep):
    for name, (_, decay) in lr_and_decay(deep, 1000).items():
        spared = name.endswith(".bias") or ".norm" in name or name.endswith(".gamma")
        assert decay == (0.0 if spared else pytest.approx(0.4)), name


def test_prototypes_do_not_learn_in_the_first_hundredth(deep):
    early, late = lr_and_decay(deep, 9), lr_and_decay(deep, 10)
    frozen = {name for name, (scale, _) in early.items() if scale == 0}
    assert frozen == {name for name in early if ".last_layer." in name}
    assert all(scale > 0 for scale, _ in late.values())


def test_prototypes_can_rest_for_a_number_of_steps():
    settings = tiny_settings("method.freeze_last_layer_steps=3")
    method = tiny_method(settings)
    deep = method, settings, build_optimizer(method, method.param_rules(), settings.optim)
    for step, scale in {1: 0, 2: 0, 3: 1, 999: 1}.items():
        assert lr_and_decay(deep, step)["student.dino_head.last_layer.weight_v"][0] == pytest.approx(scale)
