import pytest

from scanlore.registry import BACKBONES, BackboneEntry


@pytest.fixture(autouse=True)
def small_vit(monkeypatch):
    monkeypatch.setitem(BACKBONES, "vit-tiny", BackboneEntry("vit", 96, 3, 3))
