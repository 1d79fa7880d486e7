import copy

import pytest
import yaml

from scanlore.errors import ConfigError
from scanlore.training.stages import read_stages
from tiny_pretraining import RECIPE


@pytest.fixture
def staged(tmp_path):
    """Write a recipe of two stages; returns a function that takes what differs."""

    def write(**changes):
        (tmp_path / "base.yaml").write_text(yaml.safe_dump(RECIPE))
        stages = {"first": {"recipe": str(tmp_path / "base.yaml")}, "second": copy.deepcopy(RECIPE)}
        stages["second"]["optim"] = {"lr": 1e-3}
        path = tmp_path / "staged.yaml"
        path.write_text(yaml.safe_dump({"stages": stages, "seed": 3} | changes, sort_keys=False))
        return str(path)

    return write


def test_a_recipe_without_stages_is_one_without_a_name():
    (stage,) = read_stages("3dino-vit-l")
    assert (stage.name, stage.settings.training.steps) == ("", 125_000)


def test_stages_keep_their_order_and_share_what_is_beside_them(staged):
    first, second = read_stages(staged())
    assert (first.name, second.name) == ("first", "second")
    assert (first.settings.seed, second.settings.seed) == (3, 3)
    assert (first.settings.optim.lr, second.settings.optim.lr) == (2e-3, 1e-3)


def test_overrides_are_for_all_stages_or_for_one(staged):
    first, second = read_stages(staged(), ["training.steps=9", "stages.second.optim.lr=0.5"])
    assert (first.settings.training.steps, second.settings.training.steps) == (9, 9)
    assert (first.settings.optim.lr, second.settings.optim.lr) == (2e-3, 0.5)


def test_weights_are_those_of_the_first_stage(staged):
    first, second = read_stages(staged(), weights="random:vit-tiny")
    assert (first.settings.start.weights, second.settings.start.weights) == ("random:vit-tiny", None)


def test_an_earlier_start_keeps_that_step_of_the_stage_before(staged):
    second = copy.deepcopy(RECIPE) | {"start_step": 4}
    stages = read_stages(staged(stages={"first": RECIPE, "second": second}))
    assert [stage.start_step for stage in stages] == [None, 4]
    assert stages[0].settings.training.export_at == (4,)


@pytest.mark.parametrize(
    ("stages", "text"),
    [
        ({}, "stages needs one"),
        ({"a": "3dino-vit-s"}, "stages needs one"),
        ({"a/b": RECIPE}, "needs a name of letters"),
        ({"a": {"recipe": "3dino-vit-l-staged"}}, "has stages of its own"),
        ({"a": {"recipe": "3dino-vit-x"}}, "did you mean"),
        ({"a": RECIPE | {"start_step": 2}}, "there is none"),
        ({"a": RECIPE, "b": RECIPE | {"start_step": 0}}, "start_step must be a step"),
        ({"a": RECIPE, "b": RECIPE | {"start_step": 7}}, "behind the last step 6"),
        ({"a": RECIPE | {"optimm": 1}}, "stage a: unknown setting 'optimm'"),
    ],
)
def test_wrong_stages_are_refused_in_one_line(staged, stages, text):
    with pytest.raises(ConfigError, match=text) as caught:
        read_stages(staged(stages=stages))
    assert "\n" not in str(caught.value)


def test_an_override_of_an_unknown_stage_names_the_right_one(staged):
    with pytest.raises(ConfigError, match="did you mean 'second'"):
        read_stages(staged(), ["stages.secnd.seed=1"])


def test_the_high_resolution_stage_is_the_paper_s():
    base, highres = (stage.settings for stage in read_stages("3dino-vit-l-staged"))
    assert (base.training.steps, base.training.batch_size) == (125_000, 512)
    assert (highres.training.steps, highres.training.batch_size) == (12_500, 256)
    assert (highres.views.global_crops.size, highres.views.local_crops.size) == (112, 64)
    assert highres.data.slices_above == 48
    assert highres.optim.peak_lr(256) == pytest.approx(5e-4)
    assert highres.method == base.method  # shares of the run: the schedules are compressed tenfold
    assert (highres.optim.warmup, highres.optim.weight_decay) == (base.optim.warmup, base.optim.weight_decay)


def test_where_a_stage_starts_can_be_overridden(staged):
    stages = read_stages(staged(), ["stages.second.start_step=4"])
    assert (stages[1].start_step, stages[0].settings.training.export_at) == (4, (4,))
    with pytest.raises(ConfigError, match="behind the last step 6"):
        read_stages(staged(), ["stages.second.start_step=7"])
    with pytest.raises(ConfigError, match="a stage has no value of its own"):
        read_stages(staged(), ["stages.second=7"])
