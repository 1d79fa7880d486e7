import pytest
import torch
from torch import nn

from scanlore.methods.contract import ParamRule, Progress
from scanlore.training.optim_settings import AdamWSettings
from scanlore.training.optimizer import build_optimizer, clip_parts, set_schedules

SETTINGS = AdamWSettings(lr=1.0, lr_rule="none", min_lr=0.0, warmup=0.1, weight_decay=(0.04, 0.4), layer_decay=0.5)
RULES = [
    ParamRule("low.weight", "backbone", layers_above=2, is_patch_embed=True),
    ParamRule("low.bias", "backbone", layers_above=2, decay=False),
    ParamRule("top.weight", "head", frozen_share=0.2),
    ParamRule("top.bias", "head", decay=False),
]


@pytest.fixture
def module():
    torch.manual_seed(0)
    return nn.ModuleDict({"low": nn.Linear(3, 4), "top": nn.Linear(4, 2)})


def values(module, step):
    optimizer = build_optimizer(module, RULES, SETTINGS)
    scheduled = set_schedules(optimizer, SETTINGS, 8, Progress(step, 100))
    names = {parameter: name for name, parameter in module.named_parameters()}
    groups = optimizer.param_groups
    return scheduled, {names[p]: (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}


def test_schedules_are_set_per_group(module):
    scheduled, found = values(module, 10)
    assert scheduled == {"lr": 1.0, "weight_decay": pytest.approx(0.0488, rel=1e-3)}
    decay = scheduled["weight_decay"]
    assert found == {
        "low.weight": (pytest.approx(0.25 * 0.2), decay),
        "low.bias": (0.25, 0.0),
        "top.weight": (0.0, decay),
        "top.bias": (1.0, 0.0),
    }


def test_frozen_parameters_learn_later(module):
    assert values(module, 19)[1]["top.weight"][0] == 0.0
    assert values(module, 20)[1]["top.weight"][0] > 0.5


@pytest.mark.parametrize(
    ("rest", "factors"),
    [
        ({"frozen_steps": 20}, {19: 0, 20: 1, 60: 1}),
        ({"ramp_share": 0.5}, {10: 0.2, 25: 0.5, 50: 1}),
        ({"frozen_share": 0.2, "ramp_share": 0.4}, {19: 0, 20: 0, 40: 0.5, 60: 1, 90: 1}),
    ],
)
def test_rest_and_ramp(module, rest, factors):
    rules = [ParamRule(name, "all", **rest) for name, _ in module.named_parameters()]
    optimizer = build_optimizer(module, rules, SETTINGS)
    for step, factor in factors.items():
        lr = set_schedules(optimizer, SETTINGS, 8, Progress(step, 100))["lr"]
        assert optimizer.param_groups[0]["lr"] == pytest.approx(factor * lr)


def test_parameters_under_the_same_rule_share_a_group(module):
    rules = [ParamRule(name, "all") for name, _ in module.named_parameters()]
    assert len(build_optimizer(module, rules, SETTINGS).param_groups) == 1


def test_every_part_is_clipped_on_its_own(module):
    for name, parameter in module.named_parameters():
        parameter.grad = torch.full_like(parameter, 10.0 if name.startswith("low") else 0.01)
    norms = clip_parts(module, RULES, clip=3.0)
    assert float(norms["backbone"]) == pytest.approx(10 * 16**0.5)
    assert float(norms["head"]) == pytest.approx(0.01 * 10**0.5)
    clipped = torch.cat([parameter.grad.flatten() for parameter in module["low"].parameters()])
    assert float(clipped.norm()) == pytest.approx(3.0, rel=1e-4)
    assert all(torch.equal(p.grad, torch.full_like(p, 0.01)) for p in module["top"].parameters())
