import numpy as np
import pytest
import torch
import torch.nn.functional as F

from scanlore.methods.contract import Progress
from scanlore.methods.dino.gram import gram_loss, resized
from scanlore.methods.dino.settings import GramSettings
from scanlore.registry import BACKBONES, BackboneEntry
from tiny_pretraining import random_batch, tiny_method, tiny_settings

EMA = "method.gram={teacher: ema, refresh: 0.3, max_updates: 2}"


@pytest.fixture(autouse=True)
def small_vit(monkeypatch):
    monkeypatch.setitem(BACKBONES, "vit-tiny", BackboneEntry("vit", 24, 2, 3))


def features(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def test_gram_loss_equals_a_loop_over_all_pairs_of_patches():
    student, teacher = features(2, 3, 5).numpy(), features(2, 3, 5, seed=1).numpy()

    def cosine(one, other):
        return one @ other / np.linalg.norm(one) / np.linalg.norm(other)

    squares = [
        (cosine(student[b, i], student[b, j]) - cosine(teacher[b, i], teacher[b, j])) ** 2
        for b in range(2)
        for i in range(3)
        for j in range(3)
    ]
    found = gram_loss(torch.from_numpy(student), torch.from_numpy(teacher))
    assert float(found) == pytest.approx(np.mean(squares), rel=1e-5)


def test_gram_loss_sees_likeness_not_features():
    student = features(2, 6, 4)
    turned = 3 * student @ torch.linalg.qr(features(4, 4, seed=1)).Q
    assert float(gram_loss(student, turned)) == pytest.approx(0, abs=1e-10)
    assert float(gram_loss(student, features(2, 6, 4, seed=2))) > 0.01


def test_gram_loss_is_computed_in_float32_under_autocast():
    student, teacher = features(2, 6, 4), features(2, 6, 4, seed=1)
    with torch.autocast("cpu", torch.bfloat16):
        found = gram_loss(student.bfloat16(), teacher.bfloat16())
    assert found == gram_loss(student.bfloat16(), teacher.bfloat16())


@pytest.mark.parametrize("grid", [(4, 4), (4, 4, 4)])
def test_features_are_resized_along_the_axes_of_their_grid(grid):
    ramp = torch.arange(4.0).view(4, *(1,) * (len(grid) - 1)).expand(grid).flatten()[None, :, None]
    half = resized(ramp, grid, (2,) * len(grid))
    rows = half.view(2, -1)
    assert torch.allclose(rows, rows[:, :1].expand_as(rows))
    assert float(rows[1, 0] - rows[0, 0]) == pytest.approx(2, abs=0.3)
    assert torch.equal(resized(ramp, grid, grid), ramp)


@pytest.mark.parametrize("ndim", [2, 3])
def test_the_term_is_the_loss_of_these_features(ndim):
    settings = tiny_settings("method.gram={weight: 3}", "views.gram_size=32", ndim=ndim)
    method, batch = tiny_method(settings), random_batch(settings)
    with torch.no_grad():
        for parameter in method.gram_teacher.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    term = method(batch, Progress(0, 10))["gram"]
    (seen,) = method.gram_teacher.tokens([batch.groups["gram"].pixels])
    maps = seen.patches.mT.unflatten(-1, (4,) * ndim)
    target = F.interpolate(maps, size=(2,) * ndim, mode="bicubic" if ndim == 2 else "trilinear")
    (masked,) = method.student.backbone.tokens([batch.groups["global"].pixels], [batch.masks])
    torch.testing.assert_close(term, 3 * gram_loss(masked.patches, target.flatten(2).mT))


def test_the_gram_teacher_does_not_learn_and_is_saved():
    settings = tiny_settings("method.gram={}", "views.gram_size=16")
    method = tiny_method(settings).train()
    terms = method(random_batch(settings), Progress(0, 10))
    sum(terms.values()).backward()
    assert all(p.grad is None and not p.requires_grad for p in method.gram_teacher.parameters())
    assert not any(module.training for module in method.gram_teacher.modules())
    assert not [rule for rule in method.param_rules() if "gram" in rule.name]
    assert {name for name in method.state_dict() if name.startswith("gram_teacher.blocks.0.")}
    assert not [name for name in tiny_method(tiny_settings()).state_dict() if "gram" in name]


def test_a_refreshed_gram_teacher_is_the_running_teacher():
    method = tiny_method(tiny_settings(EMA, "views.gram_size=16"))
    changed = []
    for step in range(10):
        with torch.no_grad():
            for parameter in method.student.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        before = method.gram_teacher.cls_token.clone()
        method.after_step(Progress(step, 10))
        if not torch.equal(before, method.gram_teacher.cls_token):
            changed.append(step + 1)
            for ours, theirs in zip(method.gram_teacher.parameters(), method.exported().parameters(), strict=True):
                assert torch.equal(ours, theirs)
    assert changed == [3, 6]


def test_a_fixed_gram_teacher_is_never_refreshed():
    assert not any(GramSettings().is_refreshed(step, 10) for step in range(11))
