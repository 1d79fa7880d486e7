import pytest
from pydantic import ValidationError

from scanlore.backbones.settings import BackboneSettings, ResEncSettings, ViTSettings, backbone_settings
from scanlore.config import Settings, validate
from scanlore.errors import ConfigError
from scanlore.registry import BACKBONES


class Recipe(Settings):
    backbone: BackboneSettings


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"name": "vit-larg"}, "did you mean 'vit-large'"),
        ({"image_size": 100}, "no multiple of patch_size 16"),
        ({"pos_interpolation": "cubic"}, "ndim 2 only"),
        ({"pos_antialias": True}, "ndim 2 only"),
        ({"ndim": 4}, "2 or 3"),
        ({"rope_rescale": 2.0}, "set positions to rope"),
        ({"drop_path": 1.0}, "less than 1"),
        ({"in_channels": 0}, "greater than or equal to 1"),
        ({"name": "resenc-s"}, "these are settings of vit-tiny"),
    ],
)
def test_what_cannot_be_is_refused(values, says):
    with pytest.raises(ValidationError, match=says):
        ViTSettings.model_validate({"name": "vit-tiny"} | values)


@pytest.mark.parametrize(
    "settings",
    [
        ViTSettings(name="vit-tiny", ndim=2, pos_interpolation="cubic", pos_antialias=True),
        ResEncSettings(name="resenc-s", in_channels=2, out_channels=3),
    ],
)
def test_settings_survive_their_own_dump(settings):
    assert backbone_settings(settings.model_dump(mode="json"), "here") == settings
    assert validate(Recipe, {"backbone": settings.model_dump(mode="json")}, "here").backbone == settings
    assert Recipe(backbone=settings).backbone == settings


@pytest.mark.parametrize("name", BACKBONES)
def test_every_name_has_settings(name):
    assert BACKBONES[name].input_size % backbone_settings({"name": name}, "here").patch_size == 0


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"name": "resenc-x"}, r"backbone\.name: no backbone of this name; .*resenc-l; did you mean 'resenc-"),
        ({"name": "vit-smal"}, r"backbone\.name: no backbone of this name; .*did you mean 'vit-small'"),
        ({}, r"'backbone\.name' is missing"),
        ({"name": 3}, r"backbone\.name: should be a valid string, got 3"),
        ({"name": "resenc-s", "out_chanels": 2}, r"'backbone\.out_chanels'; did you mean 'backbone\.out_channels'"),
        ({"name": "resenc-s", "zzz": 2}, r"'backbone\.zzz'; known here: name, ndim, in_channels, out_channels$"),
        ({"name": "vit-small", "patchsize": 2}, r"'backbone\.patchsize'; did you mean 'backbone\.patch_size'"),
        ({"name": "resenc-s", "ndim": 4}, r"backbone\.ndim: should be 2 or 3, got 4"),
        ("resenc-s", "backbone is a group of settings"),
        ({"name": ["resenc-s"]}, r"backbone\.name: should be a valid string"),
    ],
)
def test_errors_name_the_key_and_not_the_family(values, says):
    with pytest.raises(ConfigError, match=says):
        validate(Recipe, {"backbone": values}, "recipe")


def test_plain_settings_are_refused_with_their_source():
    with pytest.raises(ConfigError, match=r"model\.json: unknown setting 'patchsize'; known here|did you mean"):
        backbone_settings({"name": "vit-tiny", "patchsize": 3}, "model.json")
