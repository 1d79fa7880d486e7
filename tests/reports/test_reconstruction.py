import numpy as np
import pytest
import torch
from PIL import Image

from scanlore.methods.masked import Reconstruction
from scanlore.reports.reconstruction import draw_reconstruction


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_row_per_view(tmp_path, ndim):
    views = torch.rand(2, 1, *(8,) * ndim)
    hidden = (torch.rand_like(views) > 0.5).float()
    path = tmp_path / "previews" / "step.png"
    draw_reconstruction(Reconstruction(views, hidden, 1 - views), path, step=3)
    with Image.open(path) as image:
        assert np.asarray(image).std() > 10


def test_a_constant_view_is_drawn(tmp_path):
    views = torch.zeros(1, 1, 8, 8, 8)
    draw_reconstruction(Reconstruction(views, torch.ones_like(views), views), tmp_path / "flat.png", step=0)
    assert (tmp_path / "flat.png").stat().st_size > 0
