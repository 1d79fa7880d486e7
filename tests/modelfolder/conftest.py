from dataclasses import replace

import pytest

from scanlore.backbones.build import build_backbone
from scanlore.backbones.settings import ResEncSettings, ViTSettings
from scanlore.modelfolder.folder import save_model_folder
from scanlore.modelfolder.preprocessing import Preprocessing
from scanlore.registry import BACKBONES

ARCHITECTURE = {"name": "vit-tiny", "patch_size": 4, "image_size": 8, "layer_scale": 0.5}


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    """Width 24 and depth 2, or three stages, under the registered names."""
    monkeypatch.setitem(BACKBONES, "vit-tiny", replace(BACKBONES["vit-tiny"], embed_dim=24, depth=2, num_heads=3))
    tiny = replace(BACKBONES["resenc-tiny"], embed_dim=12, depth=3, features=(4, 8, 12), blocks=(1, 1, 1))
    monkeypatch.setitem(BACKBONES, "resenc-tiny", replace(tiny, input_size=16))


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


@pytest.fixture
def cnn_folder(tmp_path):
    """A model folder of a CNN with weights of seed 5."""
    architecture = ResEncSettings(name="resenc-tiny")
    preprocessing = Preprocessing(ndim=3, input_size=8, resize="centre-crop", spacing=1.0, outside=0.0)
    save_model_folder(tmp_path / "N", build_backbone(architecture, 5), architecture, preprocessing, {}, "CC0")
    return tmp_path / "N"
