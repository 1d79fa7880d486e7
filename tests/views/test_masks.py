import numpy as np
import pytest

from scanlore.views.masks import sample_masks
from scanlore.views.settings import MaskSettings


def masks(num_crops=16, num_patches=216, seed=0, **settings):
    return sample_masks(np.random.default_rng(seed), num_crops, num_patches, MaskSettings(**settings))


@pytest.mark.parametrize(("share", "num_masked"), [(0.5, 8), (0.3, 4), (1.0, 16), (0.0, 0)])
def test_share_of_the_crops_is_masked(share, num_masked):
    assert masks(share=share).any(1).sum() == num_masked


def test_every_stratum_is_drawn_once():
    counts = np.sort(masks().sum(1))[8:]
    bounds = 216 * np.linspace(0.2, 0.75, 9)
    assert np.all(counts >= np.floor(bounds[:-1]))
    assert np.all(counts <= bounds[1:])


def test_a_masked_crop_has_hidden_and_visible_patches():
    found = masks(num_crops=50, num_patches=2, share=1.0, ratio=(0.01, 0.99))
    assert np.all(found.sum(1) == 1)


def test_which_crops_and_patches_changes():
    assert not np.array_equal(masks(seed=0).any(1), masks(seed=1).any(1))
    often = np.mean([masks(seed=seed) for seed in range(200)], axis=0)
    assert often.shape == (16, 216)
    assert abs(often.mean() - 0.5 * 0.475) < 0.01
    assert often.max() < 0.45
