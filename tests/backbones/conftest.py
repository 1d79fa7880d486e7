from dataclasses import replace
from itertools import product

import pytest
import torch

from scanlore.backbones.build import build_backbone
from scanlore.backbones.settings import backbone_settings
from scanlore.registry import BACKBONES

VIT = {"patch_size": 4, "image_size": 8, "layer_scale": 0.5}


@pytest.fixture
def small(monkeypatch):
    """Build any registered backbone small: ViTs of width 24 and depth 3, patches of 4; CNNs of three stages."""

    def make(name="vit-tiny", ndim=3, seed=0, **settings):
        entry = BACKBONES[name]
        if entry.family == "vit":
            values, tiny = VIT, replace(entry, embed_dim=24, depth=3, num_heads=3)
        else:
            values, tiny = {}, replace(entry, embed_dim=12, depth=3, features=(4, 8, 12), blocks=(1, 1, 2))
        monkeypatch.setitem(BACKBONES, name, tiny)
        return build_backbone(backbone_settings({"name": name, "ndim": ndim} | values | settings, name), seed).eval()

    return make


def everyone(family=""):
    """Return every registered backbone of a family in 2D and 3D, as parameters."""
    names = [name for name, entry in BACKBONES.items() if entry.family.startswith(family)]
    return [pytest.param((name, ndim), id=f"{name}-{ndim}d") for name, ndim in product(names, (2, 3))]


@pytest.fixture(params=everyone())
def network(request, small):
    """Every registered backbone in 2D and 3D."""
    name, ndim = request.param
    return small(name, ndim)


@pytest.fixture(params=[*everyone("vit"), *(pytest.param(("vit-tiny", n, "rope"), id=f"rope-{n}d") for n in (2, 3))])
def vit(request, small):
    """Every registered ViT in 2D and 3D, with registers; one of them also with rotary positions."""
    name, ndim, positions = (*request.param, "learned")[:3]
    return small(name, ndim, num_registers=2, positions=positions)


@pytest.fixture(params=everyone("resenc"))
def cnn(request, small):
    """Every registered CNN in 2D and 3D."""
    name, ndim = request.param
    return small(name, ndim)


@pytest.fixture
def views_for():
    """Random views for a backbone."""

    def make(network, *size, batch=2, seed=0):
        shape = (batch, network.in_channels, *(size or (8,) * network.ndim))
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed))

    return make
