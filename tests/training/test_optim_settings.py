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


def at(share):
    return Progress(round(share * 10**7), 10**7)


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
    assert settings.lr_at(at(0.0), 2) == 1e-2
    assert settings.lr_at(at(0.5), 2) == pytest.approx(1e-2 * 0.5**0.9)


def test_both_warmups_of_s3d_reach_the_peak():
    settings = SgdSettings(lr=1e-3, warmups=(0.05, 0.05))
    assert settings.lr_at(at(0.0499999), 2) == pytest.approx(1e-3, rel=1e-4)
    assert settings.lr_at(at(0.05), 2) == 0
    assert settings.lr_at(at(0.1), 2) == pytest.approx(1e-3)


def test_warmups_leave_time_to_train():
    with pytest.raises(ConfigError, match="leave nothing"):
        validate(SgdSettings, {"warmups": [0.5, 0.5]}, "recipe")


def test_adamw_can_fall_as_nnunet_does():
    settings = AdamWSettings(lr=1.0, lr_rule="none", warmup=0.5, schedule="poly")
    assert settings.lr_at(at(0.25), 1) == 0.5
    assert settings.lr_at(at(0.75), 1) == pytest.approx(0.5**0.9)


CONSTANT = {"lr": 0.5, "lr_rule": "none", "schedule": "constant", "weight_decay": (0.04, 0.04)}


def test_a_constant_rate_stays_after_its_warm_up():
    settings = AdamWSettings(**CONSTANT, warmup=0.1)
    assert [settings.lr_at(Progress(step, 100), 1) for step in (0, 5, 10, 50, 100)] == [0, 0.25, 0.5, 0.5, 0.5]


def test_with_warm_up_steps_nothing_depends_on_the_length_of_the_run():
    settings = AdamWSettings(**CONSTANT, warmup_steps=7)
    short, long = ([Progress(step, length) for step in range(20)] for length in (20, 1234))
    rates = [settings.lr_at(progress, 1) for progress in short]
    assert rates == [settings.lr_at(progress, 1) for progress in long]
    assert rates[6:9] == [0.5 * (6 / 7), 0.5, 0.5]
    assert {settings.decay_at(progress) for progress in short + long} == {0.04}


@pytest.mark.parametrize("schedule", ["cosine", "poly"])
def test_warm_up_steps_are_a_share_of_the_run_for_schedules_that_fall(schedule):
    steps = AdamWSettings(schedule=schedule, warmup_steps=25)
    share = AdamWSettings(schedule=schedule, warmup=0.25)
    assert steps.warmup_share(100) == 0.25
    for step in (0, 24, 25, 70, 100):
        assert steps.lr_at(Progress(step, 100), 8) == pytest.approx(share.lr_at(Progress(step, 100), 8))


def test_a_warm_up_longer_than_the_run_ends_with_it():
    assert AdamWSettings(warmup_steps=500).warmup_share(100) == 1
    assert AdamWSettings(**CONSTANT, warmup_steps=200).lr_at(Progress(100, 100), 1) == 0.25


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
