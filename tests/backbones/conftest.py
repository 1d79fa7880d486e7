from dataclasses import replace
from itertools import product

import pytest
import torch

from scanlore.backbones.build import build_backbone
from scanlore.backbones.settings import ViTSettings
from scanlore.registry import BACKBONES


@pytest.fixture
def small(monkeypatch):
    """Build any registered backbone at width 24 and depth 3, for views of 8 voxels and patches of 4."""

    def make(name="vit-tiny", ndim=3, seed=0, **settings):
        entry = BACKBONES[name]
        monkeypatch.setitem(BACKBONES, name, replace(entry, embed_dim=24, depth=3, num_heads=3))
        values = {"name": name, "ndim": ndim, "patch_size": 4, "image_size": 8, "layer_scale": 0.5} | settings
        return build_backbone(ViTSettings.model_validate(values), seed).eval()

    return make


@pytest.fixture(params=list(product(BACKBONES, (2, 3))), ids=lambda param: f"{param[0]}-{param[1]}d")
def network(request, small):
    """Every registered backbone in 2D and 3D, with registers."""
    name, ndim = request.param
    return small(name, ndim, num_registers=2)


@pytest.fixture
def views_for():
    """Random views for a backbone."""

    def make(network, *size, batch=2, seed=0):
        shape = (batch, network.in_channels, *(size or (8,) * network.ndim))
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed))

    return make
