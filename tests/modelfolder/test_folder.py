import json
import os

import pytest
import torch
from safetensors.torch import load_file, save_file

from scanlore.backbones.build import build_backbone
from scanlore.backbones.settings import ResEncSettings
from scanlore.errors import ModelError
from scanlore.modelfolder.folder import fill, load_model_folder, read_tensors, save_model_folder, write_tensors
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


@pytest.fixture
def cnn():
    return build_backbone(ResEncSettings(name="resenc-tiny"), 5)


def test_twins_are_written_once_and_stay_tied(cnn_folder, cnn):
    assert len(load_file(cnn_folder / "model.safetensors")) == len(list(cnn.parameters()))
    loaded = load_model_folder(cnn_folder)[0]
    assert loaded.settings == cnn.settings
    assert torch.equal(loaded(VIEWS), cnn(VIEWS))
    assert len(list(loaded.parameters())) == len(list(cnn.parameters()))
    with torch.no_grad():
        loaded.encoder.stem.convs[0].conv.weight.add_(1)
    assert not torch.equal(loaded(VIEWS), cnn(VIEWS))
    assert torch.equal(
        loaded.decoder.encoder.stem.convs[0].all_modules[0].weight, loaded.encoder.stem.convs[0].conv.weight
    )


@pytest.mark.parametrize("spelling", ["", "all_modules"])
def test_any_spelling_of_twins_loads(cnn, spelling):
    full = cnn.state_dict()
    if spelling:
        twins = {name for name in full if ".conv." in name or ".norm." in name or name.startswith("decoder.encoder.")}
        full = {name: tensor for name, tensor in full.items() if name not in twins}
    network = build_backbone(cnn.settings, 6)
    fill(network, full, "here")
    assert torch.equal(network(VIEWS), cnn(VIEWS))


def test_of_untied_twins_the_one_that_computes_counts(cnn):
    other = build_backbone(cnn.settings, 7).state_dict()
    untied = {name: tensor if "all_modules" in name else other[name] for name, tensor in cnn.state_dict().items()}
    network = build_backbone(cnn.settings, 6)
    fill(network, untied, "here")
    assert torch.equal(network.encoder.stem(VIEWS), cnn.encoder.stem(VIEWS))
    assert torch.equal(network.encoder(VIEWS)[-1], cnn.encoder(VIEWS)[-1])


def test_a_missing_twin_counts_once(cnn):
    full = cnn.state_dict()
    weights = {name: tensor for name, tensor in full.items() if "encoder.stem" not in name}
    with pytest.raises(ModelError, match=r"4 missing \(encoder\.stem\.convs\.0\.conv\.bias \.\.\.\)$"):
        fill(cnn, weights, "here")


def test_tensors_survive_their_file(tmp_path, cnn):
    write_tensors(tmp_path / "a.safetensors", cnn)
    found = read_tensors(tmp_path / "a.safetensors")
    assert all(torch.equal(tensor, cnn.state_dict()[name]) for name, tensor in found.items())


def test_a_segmenter_is_no_backbone(folder):
    change(folder, kind="segmenter")
    refused(folder, "is a segmenter: it gives labels")


def test_unknown_family(folder, architecture):
    change(folder, architecture=architecture.model_dump() | {"name": "swin-tiny"})
    refused(folder, "no backbone of this name")
