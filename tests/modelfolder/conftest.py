from dataclasses import replace

import pytest

from scanlore.backbones.build import build_backbone
from scanlore.backbones.settings import ViTSettings
from scanlore.modelfolder.folder import save_model_folder
from scanlore.modelfolder.preprocessing import Preprocessing
from scanlore.registry import BACKBONES

ARCHITECTURE = {"name": "vit-tiny", "patch_size": 4, "image_size": 8, "layer_scale": 0.5}


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    """Width 24 and depth 2 under the registered name."""
    monkeypatch.setitem(BACKBONES, "vit-tiny", replace(BACKBONES["vit-tiny"], embed_dim=24, depth=2, num_heads=3))


@pytest.fixture
def architecture():
    return ViTSettings.model_validate(ARCHITECTURE)


@pytest.fixture
def folder(tmp_path, architecture):
    """A model folder with weights of seed 5."""
    preprocessing = Preprocessing(ndim=3, input_size=8, embedding="cls+mean")
    backbone = build_backbone(architecture, 5)
    save_model_folder(tmp_path / "M", backbone, architecture, preprocessing, {"recipe": "r", "steps": 3}, "CC0")
    return tmp_path / "M"
