import numpy as np
import pytest
import torch
from PIL import Image

from scanlore.reports import view_sheet
from scanlore.reports.view_sheet import HIDDEN, draw_views
from scanlore.views.photometric_draws import GAMMA, WIDTH
from tiny_pretraining import random_batch, tiny_settings


@pytest.fixture
def sheet(tmp_path):
    def draw(batch, settings):
        path = tmp_path / "new" / "first.png"
        draw_views(batch, settings, path)
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB")).astype(int)

    return draw


def is_shaded(pixels):
    """Whether a pixel is more orange than any grey one."""
    return pixels[..., 0] - pixels[..., 2] > 0.4 * HIDDEN[0]


@pytest.mark.parametrize("ndim", [2, 3])
def test_hidden_patches_are_shaded(sheet, ndim):
    settings = tiny_settings(ndim=ndim)
    batch = random_batch(settings)
    shaded = is_shaded(sheet(batch, settings)).mean()
    batch.masks[:] = True
    assert 0 < shaded < is_shaded(sheet(batch, settings)).mean()


def test_nothing_is_shaded_where_nothing_is_hidden(sheet):
    settings = tiny_settings()
    batch = random_batch(settings)
    batch.masks = torch.empty(0, dtype=torch.bool)
    assert not is_shaded(sheet(batch, settings)).any()


def test_the_batch_is_left_as_it_is(sheet):
    settings = tiny_settings()
    batch = random_batch(settings)
    group = batch.groups["global"]
    group.draws = torch.full((len(group.pixels), WIDTH), torch.nan)
    group.draws[:, GAMMA] = 2.0
    group.low, group.high = torch.full((len(group.pixels),), -1.0), torch.ones(len(group.pixels))
    before = group.pixels.clone()
    plain = sheet(random_batch(settings), settings)
    assert (sheet(batch, settings) != plain).any()  # the transform is seen
    assert torch.equal(group.pixels, before)


def test_only_some_scans_are_drawn_those_with_a_mask_first(sheet, monkeypatch):
    settings = tiny_settings()
    batch = random_batch(settings, num_scans=4)
    batch.masks[:] = False
    batch.masks[7] = True  # the second crop of the last scan
    monkeypatch.setattr(view_sheet, "MAX_SCANS", 1)
    pixels = sheet(batch, settings)
    assert is_shaded(pixels).any()
    assert len(pixels) < 400


def test_views_of_a_masked_autoencoder(sheet):
    from scanlore.views.loader import Batch, ViewGroup

    empty = torch.empty(0)
    masks = torch.tensor([[True, False] * 4])
    group = ViewGroup(torch.randn(1, 1, 16, 16, 16), empty, empty, empty, empty)
    assert is_shaded(sheet(Batch(0, ["a"], {"views": group}, masks), tiny_settings())).any()


def test_a_constant_view_is_drawn(sheet):
    settings = tiny_settings(ndim=2)
    batch = random_batch(settings)
    for group in batch.groups.values():
        group.pixels.zero_()
    assert np.isfinite(sheet(batch, settings)).all()
