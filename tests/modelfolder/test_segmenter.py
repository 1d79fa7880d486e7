import json
from dataclasses import replace

import pytest
import torch

from scanlore.backbones.build import build_backbone
from scanlore.backbones.linear_decoder import LinearDecoder
from scanlore.backbones.settings import ResEncSettings
from scanlore.errors import ModelError
from scanlore.modelfolder.segmentation_preprocessing import SegmentationPreprocessing
from scanlore.modelfolder.segmenter import load_segmenter, save_segmenter
from scanlore.registry import BACKBONES

FACTS = {"ndim": 3, "labels": {0: "background", 1: "liver", 2: "spleen"}}


@pytest.fixture
def network(monkeypatch, architecture):
    """By decoder: a network, the settings of its backbone, the size of its windows."""
    tiny = replace(BACKBONES["resenc-tiny"], features=(4, 8, 8), blocks=(1, 1, 1))
    monkeypatch.setitem(BACKBONES, "resenc-tiny", tiny)
    unet = ResEncSettings(name="resenc-tiny", out_channels=3)
    return {
        "unet": (build_backbone(unet, 1), unet, 8),
        "linear": (LinearDecoder(build_backbone(architecture, 1), 3, 2), architecture, 8),
    }


def save(folder, kind, network):
    module, settings, edge = network[kind]
    architecture = {"backbone": settings.model_dump(mode="json"), "decoder": {"unet": kind, "linear": {kind: 2}}[kind]}
    preprocessing = SegmentationPreprocessing(**FACTS, patch=(edge,) * 3, spacing=(1.0, 1.0, 2.0))
    save_segmenter(folder, module, architecture, preprocessing, {"task": "organs"}, "CC0")
    return preprocessing


@pytest.mark.parametrize("kind", ["unet", "linear"])
def test_a_segmenter_comes_back_whole(tmp_path, network, kind):
    preprocessing = save(tmp_path / "A" / "model", kind, network)
    views = torch.randn(2, 1, 8, 8, 8)
    expected = network[kind][0].eval()(views)
    for reference in (tmp_path / "A", str(tmp_path / "A" / "model")):
        loaded = load_segmenter(reference)
        assert (loaded.preprocessing, loaded.training, loaded.name) == (preprocessing, False, str(reference))
        torch.testing.assert_close(loaded(views), expected)
    assert loaded.facts["licence"] == "CC0"
    card = (tmp_path / "A" / "model" / "README.md").read_text()
    assert "for liver, spleen" in card
    assert "Not a medical device" in card


def test_a_backbone_is_no_segmenter(folder):
    with pytest.raises(ModelError, match=r"M: is a backbone: it gives features, no labels .*scanlore adapt"):
        load_segmenter(folder)


def test_references_that_name_nothing(tmp_path):
    for reference in (tmp_path / "nothing", "random:resenc-tiny"):
        with pytest.raises(ModelError, match="there is no such model"):
            load_segmenter(reference)
    with pytest.raises(ModelError, match="is no model folder"):
        load_segmenter(tmp_path)


@pytest.mark.parametrize(
    ("command", "folders", "words"),
    [
        ("adapt", ["checkpoints"], "not finished"),
        ("adapt", [], "the adapt run holds no segmenter"),
        ("embed", [], "no"),
    ],
)
def test_runs_without_a_segmenter(tmp_path, command, folders, words):
    (tmp_path / "run.json").write_text(json.dumps({"command": command}))
    for name in folders:
        (tmp_path / name).mkdir()
    with pytest.raises(ModelError, match=words):
        load_segmenter(tmp_path)


def test_a_damaged_folder(tmp_path, network):
    save(tmp_path, "unet", network)
    facts = json.loads((tmp_path / "model.json").read_text())
    facts["preprocessing"]["patch"] = [8, 8]
    (tmp_path / "model.json").write_text(json.dumps(facts))
    with pytest.raises(ModelError, match="patch must be 3 edges"):
        load_segmenter(tmp_path)
    save(tmp_path, "unet", network)
    (tmp_path / "model.safetensors").write_bytes(b"x")
    with pytest.raises(ModelError, match="is damaged"):
        load_segmenter(tmp_path)
