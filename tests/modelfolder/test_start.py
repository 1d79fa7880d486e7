import pytest
import torch

from published_weights import backbone_state, teacher_state
from scanlore.backbones.build import build_backbone
from scanlore.backbones.settings import ResEncSettings, ViTSettings
from scanlore.errors import ConfigError, ModelError
from scanlore.modelfolder.folder import fill
from scanlore.modelfolder.licences import THREE_DINO
from scanlore.modelfolder.model import normalised
from scanlore.modelfolder.preprocessing import Preprocessing
from scanlore.modelfolder.start import load_start
from scanlore.modelfolder.start_settings import StartSettings
from scanlore.modelfolder.weights import load_network, open_weights

TINY = {"name": "vit-tiny", "layer_scale": 0.5}
TWO_D = {"ndim": 2, "patch_size": 14, "image_size": 28, "in_channels": 3}


@pytest.fixture
def flat(tmp_path):
    """A reference to 2D weights for colours."""
    torch.save(backbone_state(24, 2, grid=(2, 2)), tmp_path / "dinov2.pth")
    return f"dinov2:{tmp_path / 'dinov2.pth'}"


@pytest.fixture
def three_d(tmp_path):
    """A reference to 3D weights with heads."""
    state = backbone_state(24, 2, grid=(2, 2, 2), patch=4, channels=1, chunks=2)
    torch.save(teacher_state(state), tmp_path / "3dino.pth")
    return f"3dino:{tmp_path / '3dino.pth'}"


def start(reference, architecture, **settings):
    return load_start(StartSettings(weights=str(reference), **settings), architecture)


def refused(reference, architecture, says, **settings):
    with pytest.raises(ModelError, match=says) as error:
        start(reference, architecture, **settings)
    assert "\n" not in str(error.value)


def test_the_same_network_is_taken_as_it_is(folder, architecture):
    found = start(folder, architecture)
    assert all(torch.equal(found.backbone[name], t) for name, t in build_backbone(architecture, 5).state_dict().items())
    assert (found.heads, found.report.adapted, found.facts["licence"]) == ({}, (), "CC0")


def test_3dino_with_other_views(three_d):
    target = ViTSettings(**TINY, patch_size=4, image_size=12)
    found = start(three_d, target)
    fill(build_backbone(target, 0), found.backbone, "here")
    assert found.report.adapted == (("pos_embed", "resized from 2x2x2 to 3x3x3 patches"),)
    assert "dino_head.last_layer.weight_g" in found.heads
    assert found.facts["licence"] == THREE_DINO
    assert not found.report.unexpected


@pytest.mark.parametrize(("heads", "count"), [("auto", 16), ("load", 16), ("fresh", 0)])
def test_heads(three_d, heads, count):
    found = start(three_d, ViTSettings(**TINY, patch_size=4, image_size=8), heads=heads)
    assert (len(found.heads), len(found.report.unexpected)) == (count, 16 - count)


def test_heads_that_are_not_there(folder, architecture):
    refused(folder, architecture, "has no projection heads .*start.heads: fresh", heads="load")


def test_grey_gives_the_same_features_as_colours_of_that_grey(flat):
    target = ViTSettings(**TINY, **TWO_D | {"in_channels": 1})
    found = start(flat, target, channels="grey")
    grey, colours = build_backbone(target, 0), load_network(open_weights(flat))
    fill(grey, found.backbone, "here")
    views = torch.rand(2, 1, 28, 28) * 2 - 1
    seen = normalised(views.expand(-1, 3, -1, -1), open_weights(flat).preprocessing)
    expected = colours.forward_features(seen).embeddings[0]
    torch.testing.assert_close(grey.forward_features(views).embeddings[0], expected, atol=1e-4, rtol=1e-4)
    assert len(found.report.adapted) == 2


def test_grey_of_a_network_that_saw_colours_in_the_range_of_views(tmp_path):
    from scanlore.modelfolder.folder import save_model_folder

    source = ViTSettings(**TINY, **TWO_D)
    network = build_backbone(source, 2)
    save_model_folder(tmp_path / "M", network, source, Preprocessing(ndim=2, in_channels=3, input_size=28), {})
    target = ViTSettings(**TINY, **TWO_D | {"in_channels": 1})
    grey = build_backbone(target, 0)
    fill(grey, start(tmp_path / "M", target, channels="grey").backbone, "here")
    views = torch.rand(2, 1, 28, 28) * 2 - 1
    torch.testing.assert_close(grey.embed(views), network.embed(views.expand(-1, 3, -1, -1)), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("how", ["average", "centre"])
def test_a_2d_network_becomes_3d(flat, how):
    target = ViTSettings(**TINY, patch_size=4, image_size=12)
    found = start(flat, target, channels="grey", inflate=how)
    fill(build_backbone(target, 0), found.backbone, "here")
    assert {name for name, _ in found.report.adapted} == {
        "patch_embed.proj.weight",
        "patch_embed.proj.bias",
        "pos_embed",
    }


def test_nothing_is_adapted_that_was_not_asked_for(flat, three_d):
    refused(flat, ViTSettings(**TINY, **TWO_D | {"in_channels": 1}), "take 3 channels.*start.channels: grey")
    three = ViTSettings(**TINY, patch_size=4, image_size=8)
    refused(flat, three, "a 2D network, the recipe's is 3D .*start.inflate: average", channels="grey")
    two = ViTSettings(**TINY, **TWO_D | {"in_channels": 1})
    refused(three_d, two, "a 3D network, the recipe's is 2D .*a 3D recipe", inflate="average")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"name": "vit-small"}, r"vit-tiny \(24 wide, 2 blocks, mlp\), not vit-small \(384 wide, 12 blocks, mlp\)"),
        ({"num_registers": 4}, "num registers 0, not 4"),
        ({"positions": "rope"}, "positions learned, not rope"),
        ({"layer_scale": 0.0}, "has layer scale True, not False"),
        ({"patch_size": 8}, "patch size 4, not 8"),
        ({"num_registers": 4, "positions": "rope"}, "num registers 0, not 4, positions learned, not rope"),
        ({"in_channels": 2}, "take 1 channels, the recipe's network 2"),
    ],
)
def test_another_network_is_refused_before_anything_is_copied(folder, architecture, change, says):
    refused(folder, architecture.model_copy(update=change), says)


def test_a_cnn(cnn_folder, architecture):
    same = ResEncSettings(name="resenc-tiny")
    found = start(cnn_folder, same)
    network = build_backbone(same, 0)
    fill(network, found.backbone, "here")
    x = torch.randn(1, 1, 8, 8, 8)
    assert torch.equal(network(x), build_backbone(same, 5)(x))
    refused(cnn_folder, same.model_copy(update={"in_channels": 2}), "in channels 1, not 2")
    refused(cnn_folder, architecture, r"name resenc-tiny, not vit-tiny")


def test_no_weights_are_named(architecture):
    with pytest.raises(ConfigError, match="names no weights"):
        load_start(StartSettings(), architecture)
