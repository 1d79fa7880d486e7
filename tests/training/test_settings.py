import pytest

from scanlore.errors import ConfigError
from tiny_pretraining import tiny_settings


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("views.ndim=2", "views.ndim 2 and backbone.ndim 3 differ"),
        ("views.global_crops.size=20", "views.global_crops.size 20 is no multiple of backbone.patch_size 8"),
        ("views.local_crops.size=12", "views.local_crops.size 12 is no multiple"),
        ("training.accumulate=3", "training.batch_size 4 is no multiple of training.accumulate"),
        ("views.global_crops.number=3", "must be 2"),
        ("views.masks.ratio=[0.2, 1.0]", "views.masks.ratio"),
        ("backbone.name=vit-tny", "did you mean 'vit-tiny'?"),
        ("optim.lrr=1", "unknown setting 'optim.lrr'; did you mean 'optim.lr'?"),
        ("method.head.prototype=1", "did you mean 'method.head.prototypes'?"),
        ("training.steps=0", "training.steps"),
        ("training.precision=fp16", "training.precision"),
    ],
)
def test_wrong_settings_are_named(override, words):
    with pytest.raises(ConfigError) as caught:
        tiny_settings(override)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_all_errors_come_together():
    with pytest.raises(ConfigError, match=r"optim\.lr.*training\.steps"):
        tiny_settings("optim.lr=-1", "training.steps=-1")


def test_learning_rate_written_as_1e_3_is_a_number():
    assert tiny_settings("optim.lr=1e-3").optim.lr == 0.001


@pytest.mark.parametrize(("rule", "lr"), [("sqrt-1024", 1e-3), ("none", 2e-3)])
def test_peak_learning_rate(rule, lr):
    assert tiny_settings("optim.lr=2e-3", f"optim.lr_rule={rule}").optim.peak_lr(256) == pytest.approx(lr)
