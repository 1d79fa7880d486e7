import pytest
from pydantic import ValidationError

from scanlore.views.affine_settings import AffineSettings, BlockMaskSettings, PatchSettings


def test_shape_and_mask_grid():
    assert (AffineSettings().shape, AffineSettings().mask_grid) == ((160,) * 3, (10,) * 3)
    settings = AffineSettings(ndim=2, size=(64, 96), masks=BlockMaskSettings(block=32))
    assert (settings.shape, settings.mask_grid) == ((64, 96), (2, 3))
    assert AffineSettings(size=5, masks=None).mask_grid == (5, 5, 5)


def test_the_nearest_size_that_fits_is_named():
    with pytest.raises(
        ValidationError, match=r"size 100 is no multiple of masks\.block 16; the nearest that fits is 96"
    ):
        AffineSettings(size=100)
    with pytest.raises(ValidationError, match=r"the nearest that fits is \[64, 48, 16\]"):
        AffineSettings(size=(64, 50, 3))


@pytest.mark.parametrize("ratio", [(0, 0), (0, 0.5), (1, 1), (0.5, 1), (0.9, 0.6)])
def test_ratios_that_hide_nothing_or_all_are_refused(ratio):
    with pytest.raises(ValidationError, match="needs 0 < first <= second < 1"):
        BlockMaskSettings(ratio=ratio)


def test_static_masks_are_a_range_of_equal_ends():
    assert BlockMaskSettings(ratio=(0.75, 0.75)).ratio == (0.75, 0.75)


def test_axes_of_patches_follow_from_what_is_given():
    assert PatchSettings().ndim == 3
    assert PatchSettings(patch=(64, 64)).ndim == PatchSettings(spacing=(1, 1)).ndim == 2
    assert PatchSettings(ndim=2).patch == "auto"


@pytest.mark.parametrize(
    "settings",
    [
        AffineSettings(size=(32, 48, 32), spacing=None),
        AffineSettings(masks=None),
        PatchSettings(),
        PatchSettings(ndim=2, patch=(8, 9), spacing=None),
    ],
)
def test_settings_survive_their_own_dump(settings):
    assert type(settings).model_validate(settings.model_dump(mode="json")) == settings


@pytest.mark.parametrize(
    ("cls", "values"),
    [
        (AffineSettings, {"size": 0}),
        (AffineSettings, {"size": "auto"}),
        (AffineSettings, {"size": (32, 32)}),
        (AffineSettings, {"size": (32, 32, 0)}),
        (AffineSettings, {"size": 16}),
        (AffineSettings, {"spacing": 0}),
        (AffineSettings, {"scale": (1.4, 0.7)}),
        (AffineSettings, {"scale": (0, 1)}),
        (AffineSettings, {"flip": 1.5}),
        (AffineSettings, {"rotation_degrees": -1}),
        (AffineSettings, {"scaling": "zscor"}),
        (AffineSettings, {"scaling": "window"}),
        (PatchSettings, {"patch": 64}),
        (PatchSettings, {"ndim": 3, "patch": (64, 64)}),
        (PatchSettings, {"patch": (64, 64), "spacing": (1, 1, 1)}),
        (PatchSettings, {"patch": (64,) * 5}),
        (PatchSettings, {"patch": "aut"}),
        (PatchSettings, {"ndim": 3, "spacing": (1, 1)}),
        (PatchSettings, {"spacing": (1, 1, -1)}),
    ],
)
def test_what_cannot_be_is_one_line(cls, values):
    with pytest.raises(ValidationError) as error:
        cls(**values)
    assert len(error.value.errors()) == 1
