import json
import os

import pytest
import torch
from safetensors.torch import load_file, save_file

from scanlore.backbones.build import build_backbone
from scanlore.errors import ModelError
from scanlore.modelfolder.folder import fill, load_model_folder, save_model_folder
from scanlore.modelfolder.preprocessing import Preprocessing

VIEWS = torch.randn(2, 1, 8, 8, 8, generator=torch.Generator().manual_seed(0))


def refused(folder, says):
    with pytest.raises(ModelError, match=says) as error:
        load_model_folder(folder)
    assert "\n" not in str(error.value)
    return str(error.value)


def change(folder, **facts):
    path = folder / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | facts))


def test_round_trip_gives_equal_features(folder, architecture):
    backbone, preprocessing, facts = load_model_folder(folder)
    original = build_backbone(architecture, 5)
    assert backbone.settings == architecture
    assert torch.equal(backbone.forward_features(VIEWS).maps[0], original.forward_features(VIEWS).maps[0])
    assert (preprocessing.input_size, preprocessing.embedding) == (8, "cls+mean")
    assert (facts["licence"], facts["provenance"]) == ("CC0", {"recipe": "r", "steps": 3})


def test_files(folder):
    assert {path.name for path in folder.iterdir()} == {"model.safetensors", "model.json", "README.md"}
    card = (folder / "README.md").read_text()
    assert "recipe r, steps 3" in card
    assert "CC0" in card
    assert "Not a medical device" in card


def test_a_second_save_replaces_the_first(folder, architecture):
    backbone = build_backbone(architecture, 6)
    save_model_folder(folder, backbone, architecture, Preprocessing(ndim=3, input_size=8), {})
    loaded = load_model_folder(folder)[0]
    assert torch.equal(loaded.pos_embed, backbone.pos_embed)


@pytest.mark.parametrize("name", ["model.json", "model.safetensors"])
def test_missing_file(folder, name):
    (folder / name).unlink()
    refused(folder, f"has no {name}")


@pytest.mark.parametrize("size", [0, 5, 100, 9000])
def test_truncated_weights(folder, size):
    os.truncate(folder / "model.safetensors", size)
    refused(folder, r"model\.safetensors: is damaged")


def test_unknown_architecture_keys(folder, architecture):
    change(folder, architecture=architecture.model_dump() | {"pathc_size": 8})
    assert "did you mean 'patch_size'" in refused(folder, "unknown setting 'pathc_size'")


def test_unknown_preprocessing_keys(folder):
    change(folder, preprocessing={"ndim": 3, "input_size": 8, "scalling": "zscore"})
    refused(folder, "unknown setting 'scalling'")


def test_wrong_shapes(folder, architecture):
    change(folder, architecture=architecture.model_dump() | {"patch_size": 8})
    refused(folder, r"2 of another shape \(patch_embed\.proj\.weight \.\.\.\)")


def test_missing_and_unexpected_tensors(folder):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    tensors["head.weight"] = tensors.pop("norm.weight")
    save_file(tensors, path)
    refused(folder, r"1 missing \(norm\.weight.*1 unexpected \(head\.weight")


def test_nothing_is_copied_from_weights_that_do_not_fit(architecture):
    backbone = build_backbone(architecture, 0)
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    other = build_backbone(architecture, 1).state_dict()
    del other["norm.bias"]
    with pytest.raises(ModelError):
        fill(backbone, other, "here")
    assert all(torch.equal(tensor, before[name]) for name, tensor in backbone.state_dict().items())
