from dataclasses import replace

import pytest

from published_weights import backbone_state
from scanlore.registry import BACKBONES


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    """Networks of four narrow blocks under the registered names."""
    for name, width in (("vit-small", 24), ("vit-large", 36), ("vit-giant", 48)):
        monkeypatch.setitem(BACKBONES, name, replace(BACKBONES[name], embed_dim=width, depth=4, num_heads=3))


@pytest.fixture
def flat():
    """A small 2D network as Meta publishes it."""
    return backbone_state(24, 4, grid=(2, 2))


@pytest.fixture
def three_d():
    """A 3D network as the authors of 3DINO publish it."""
    return backbone_state(36, 4, grid=(2, 2, 2), patch=4, channels=1, chunks=2)
