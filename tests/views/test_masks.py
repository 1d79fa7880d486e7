import numpy as np
import pytest

from scanlore.views.masks import sample_block_masks, sample_masks
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


def block_masks(num_views=400, num_blocks=1000, ratio=(0.6, 0.9)):
    return sample_block_masks(np.random.default_rng(0), num_views, num_blocks, ratio)


def test_block_masks_draw_a_ratio_per_view():
    counts = block_masks().sum(1)
    assert 600 <= counts.min() < 610
    assert 890 < counts.max() <= 900
    assert counts.mean() == pytest.approx(750, abs=15)


def test_static_block_masks_hide_the_same_number():
    assert set(block_masks(ratio=(0.75, 0.75)).sum(1)) == {750}


def test_every_block_is_hidden_equally_often():
    often = block_masks(num_views=2000, num_blocks=8, ratio=(0.5, 0.5)).mean(0)
    np.testing.assert_allclose(often, 0.5, atol=0.05)


@pytest.mark.parametrize("ratio", [(0.01, 0.01), (0.99, 0.99)])
def test_a_view_has_hidden_and_visible_blocks(ratio):
    counts = block_masks(num_blocks=2, ratio=ratio).sum(1)
    assert set(counts) == {1}
