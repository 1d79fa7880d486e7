import pytest
from pydantic import ValidationError

from scanlore.backbones.settings import ViTSettings


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"name": "vit-larg"}, "did you mean 'vit-large'"),
        ({"image_size": 100}, "no multiple of patch_size 16"),
        ({"pos_interpolation": "cubic"}, "ndim 2 only"),
        ({"pos_antialias": True}, "ndim 2 only"),
        ({"ndim": 4}, "2 or 3"),
        ({"drop_path": 1.0}, "less than 1"),
        ({"in_channels": 0}, "greater than or equal to 1"),
    ],
)
def test_what_cannot_be_is_refused(values, says):
    with pytest.raises(ValidationError, match=says):
        ViTSettings.model_validate({"name": "vit-tiny"} | values)


def test_settings_survive_their_own_dump():
    settings = ViTSettings(name="vit-tiny", ndim=2, pos_interpolation="cubic", pos_antialias=True)
    assert ViTSettings.model_validate(settings.model_dump(mode="json")) == settings
