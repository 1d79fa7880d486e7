import json

import pytest
import torch
from safetensors.torch import save_file

from published_weights import as_transformers, backbone_state
from scanlore.errors import ModelError
from scanlore.modelfolder.licences import OF_A_PAGE
from scanlore.modelfolder.published import hub
from scanlore.modelfolder.weights import open_weights

CONFIG = {"model_type": "dinov2", "num_attention_heads": 3, "layer_norm_eps": 1e-6, "hidden_act": "gelu"}


@pytest.fixture
def folder(tmp_path, flat):
    """A model of transformers."""
    save_file(as_transformers(flat), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    return tmp_path


def test_a_folder_of_transformers(folder, flat):
    weights = open_weights(f"hf:{folder}")
    assert all(torch.equal(weights.backbone[name], tensor) for name, tensor in flat.items())
    assert weights.facts["licence"] == OF_A_PAGE


def test_what_the_page_says_counts(folder):
    processor = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25], "crop_size": {"height": 42}}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    (folder / "README.md").write_text("---\nlicense: cc-by-4.0\ntags: [x]\n---\n# Card\n")
    weights = open_weights(f"hf:{folder}")
    assert (weights.preprocessing.mean, weights.preprocessing.std) == ((0.5,) * 3, (0.25,) * 3)
    assert (weights.preprocessing.input_size, weights.facts["licence"]) == (42, "cc-by-4.0")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"model_type": "vit"}, "is a model of the type 'vit'"),
        ({"layer_norm_eps": 1e-5}, "layer_norm_eps is 1e-05"),
        ({"num_attention_heads": 4}, "has 4 attention heads"),
    ],
)
def test_what_computes_something_else_is_refused(folder, change, says):
    (folder / "config.json").write_text(json.dumps(CONFIG | change))
    with pytest.raises(ModelError, match=says):
        open_weights(f"hf:{folder}")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_folder_that_lacks_a_file(folder, name):
    (folder / name).unlink()
    with pytest.raises(ModelError, match=f"has no {name}"):
        open_weights(f"hf:{folder}")


def test_a_damaged_config_is_one_line(folder):
    (folder / "config.json").write_text("[1")
    with pytest.raises(ModelError, match=r"config\.json: is damaged"):
        open_weights(f"hf:{folder}")


def test_the_hub_is_asked_for_what_is_needed(monkeypatch, folder):
    asked = []
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *names, **_: asked.append(names) or folder)
    assert open_weights("hf:org/name").name == "hf:org/name"
    (folder / "config.json").write_text(json.dumps({"architecture": "vit_small_patch14_reg4_dinov2"}))
    timms = backbone_state(24, 4, grid=(2, 2), registers=4)
    timms["reg_token"], timms["pos_embed"] = timms.pop("register_tokens"), timms["pos_embed"][:, 1:].contiguous()
    save_file(timms, folder / "model.safetensors")
    assert open_weights("timm:vit_small_patch14_reg4_dinov2").architecture.num_registers == 4
    assert asked == [("org/name",), ("timm/vit_small_patch14_reg4_dinov2.lvd142m",)]


def test_no_network_is_one_line(monkeypatch):
    def offline(*_, **__):
        raise OSError("the hub cannot be reached\nand more")

    monkeypatch.setattr("huggingface_hub.snapshot_download", offline)
    with pytest.raises(ModelError, match=r"cannot be reached.*name its folder: hf:FOLDER") as error:
        open_weights("hf:org/name")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("reference", ["timm:resnet50", "timm:", "timm:vit_small_patch14_dinov3"])
def test_other_models_of_timm_are_refused_with_what_is_possible(reference):
    with pytest.raises(ModelError, match="vit_large_patch14_reg4_dinov2"):
        open_weights(reference)


@pytest.mark.parametrize("rest", ["", "name", "a/b/c", "../x"])
def test_what_is_no_page_is_refused(rest):
    with pytest.raises(ModelError, match="hf:ORG/NAME"):
        open_weights(f"hf:{rest}")


def test_every_name_of_timm_is_in_timm():
    timm = pytest.importorskip("timm")
    known = {name.partition(".")[0] for name in timm.list_models("*dinov2*", pretrained=True)}
    assert set(hub.TIMM_NAMES) == known
