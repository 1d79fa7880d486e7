import pytest
import torch
from torch import nn

from scanlore.config import validate
from scanlore.errors import ConfigError
from scanlore.methods.contract import ParamRule, Progress
from scanlore.methods.schedules import poly, ramps
from scanlore.training.optim_settings import AdamWSettings, SgdSettings
from scanlore.training.optimizer import build_optimizer, set_schedules
from scanlore.training.settings import PretrainSettings
from tiny_pretraining import RECIPE, tiny_settings


def test_poly_falls_from_one_to_zero():
    assert poly(0.0) == 1
    assert poly(1.0) == 0
    assert poly(0.5) == pytest.approx(0.5**0.9)


def test_two_ramps_then_the_rest():
    share = {0.0: 0, 0.05: 0.5, 0.1: 0, 0.15: 0.5, 0.2: 1, 0.6: 0.5}
    for at, wanted in share.items():
        assert ramps((0.1, 0.1), at, lambda rest: 1 - rest) == pytest.approx(wanted)


def test_nnunets_schedule_reaches_its_peak_at_once():
    settings = SgdSettings()
    assert settings.lr_at(0.0, 2) == 1e-2
    assert settings.lr_at(0.5, 2) == pytest.approx(1e-2 * 0.5**0.9)


def test_both_warmups_of_s3d_reach_the_peak():
    settings = SgdSettings(lr=1e-3, warmups=(0.05, 0.05))
    assert settings.lr_at(0.0499999, 2) == pytest.approx(1e-3, rel=1e-4)
    assert settings.lr_at(0.05, 2) == 0
    assert settings.lr_at(0.1, 2) == pytest.approx(1e-3)


def test_warmups_leave_time_to_train():
    with pytest.raises(ConfigError, match="leave nothing"):
        validate(SgdSettings, {"warmups": [0.5, 0.5]}, "recipe")


def test_adamw_can_fall_as_nnunet_does():
    settings = AdamWSettings(lr=1.0, lr_rule="none", warmup=0.5, schedule="poly")
    assert settings.lr_at(0.25, 1) == 0.5
    assert settings.lr_at(0.75, 1) == pytest.approx(0.5**0.9)


def test_the_optimiser_is_chosen_by_name_and_adamw_without_one():
    assert isinstance(tiny_settings().optim, AdamWSettings)
    assert isinstance(tiny_settings("optim={name: sgd, lr: 0.1}").optim, SgdSettings)


def test_a_wrong_key_of_sgd_is_answered_with_its_path():
    with pytest.raises(ConfigError, match=r"unknown setting 'optim.momentumm'; did you mean 'optim.momentum'"):
        validate(PretrainSettings, RECIPE | {"optim": {"name": "sgd", "momentumm": 0.9}}, "recipe")


def test_sgd_decays_all_parameters_and_rests_none_of_the_rest():
    module = nn.Linear(2, 2)
    rules = [ParamRule("weight", "all", frozen_share=0.1), ParamRule("bias", "all")]
    settings = SgdSettings(lr=0.5)
    optimizer = build_optimizer(module, rules, settings)
    assert isinstance(optimizer, torch.optim.SGD)
    set_schedules(optimizer, settings, 2, Progress(0, 100))
    assert [(group["lr"], group["weight_decay"]) for group in optimizer.param_groups] == [(0.0, 3e-5), (0.5, 3e-5)]
