import pytest
from pydantic import ValidationError

from scanlore.views.settings import CropSettings, MaskSettings, MultiCropSettings, PhotometricSettings


def test_exact_restores_the_public_ranges():
    exact = PhotometricSettings(exact=True)
    assert (exact.noise_std, exact.sharpen_alpha, exact.gibbs_alpha) == ((0, 0.002), (10, 30), (0, 1))
    assert (exact.gamma, exact.smooth_sigma) == (PhotometricSettings().gamma, PhotometricSettings().smooth_sigma)


def test_exact_gives_way_to_what_is_said():
    assert PhotometricSettings(exact=True, gibbs_alpha=(0, 0.5)).gibbs_alpha == (0, 0.5)


def test_bounded_ranges_leave_something_of_a_scan():
    bounded = PhotometricSettings()
    assert bounded.gibbs_alpha[1] < 1
    assert bounded.sharpen_alpha[1] < 10


def test_exact_survives_its_own_dump():
    exact = PhotometricSettings(exact=True)
    assert PhotometricSettings.model_validate(exact.model_dump(mode="json")) == exact


def test_settings_survive_their_own_dump():
    settings = MultiCropSettings(scaling="window", window=(-160, 240))
    assert MultiCropSettings.model_validate(settings.model_dump(mode="json")) == settings


@pytest.mark.parametrize(
    ("cls", "values"),
    [
        (CropSettings, {"number": 2, "size": 8, "area": (0, 1)}),
        (CropSettings, {"number": 2, "size": 8, "area": (0.5, 0.4)}),
        (CropSettings, {"number": 2, "size": 8, "area": (0.5, 1.1)}),
        (CropSettings, {"number": 2, "size": 0, "area": (0.5, 1)}),
        (PhotometricSettings, {"gamma": (2, 1)}),
        (MaskSettings, {"ratio": (0, 0.5)}),
        (MaskSettings, {"ratio": (0.5, 1)}),
        (MaskSettings, {"share": 1.5}),
        (MultiCropSettings, {"scaling": "zscor"}),
        (MultiCropSettings, {"scaling": "window"}),
        (MultiCropSettings, {"window": (0, 1)}),
        (MultiCropSettings, {"scaling": "window", "window": (1, 1)}),
        (MultiCropSettings, {"aspect": (0, 1)}),
        (MultiCropSettings, {"aspect": (2, 1)}),
        (MultiCropSettings, {"global_crops": {"number": 3, "size": 8, "area": (0.5, 1)}}),
        (PhotometricSettings, {"gamma": (-1, 1)}),
        (PhotometricSettings, {"smooth_sigma": (0, 1)}),
        (PhotometricSettings, {"gibbs_alpha": (0, 1.5)}),
        (PhotometricSettings, {"noise_std": (-0.1, 0.1)}),
    ],
)
def test_what_cannot_be_is_refused(cls, values):
    with pytest.raises(ValidationError):
        cls(**values)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"resolutions": [{"share": 0.5, "global_size": 96, "local_size": 48}]}, "sum to 0.5, not to 1"),
        ({"gram_size": 48}, "gram_size 48 is below the size 96"),
        ({"gram_size": 96, "resolutions": [{"share": 1, "global_size": 96, "local_size": 48}]}, "or nowhere"),
    ],
)
def test_sizes_that_do_not_agree_are_refused(settings, words):
    with pytest.raises(ValidationError, match=words):
        MultiCropSettings.model_validate(settings)


def test_all_sizes_are_told_by_their_key():
    resolution = {"share": 1, "global_size": 112, "local_size": 64, "gram_size": 224}
    settings = MultiCropSettings.model_validate({"gram_size": 192, "resolutions": [resolution]})
    assert settings.crop_sizes() == {
        "views.global_crops.size": 96,
        "views.local_crops.size": 48,
        "views.gram_size": 192,
        "views.resolutions.0.global_size": 112,
        "views.resolutions.0.local_size": 64,
        "views.resolutions.0.gram_size": 224,
    }
    assert MultiCropSettings().each_resolution() == [MultiCropSettings()]
    assert len(MultiCropSettings().crop_sizes()) == 2
