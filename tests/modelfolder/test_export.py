import json

import pytest
import torch
from safetensors import safe_open

from scanlore.backbones.build import build_backbone
from scanlore.backbones.settings import ResEncSettings, ViTSettings
from scanlore.backbones.unique import unique_state
from scanlore.errors import ModelError
from scanlore.modelfolder.export import export_bytes, untold
from scanlore.modelfolder.preprocessing import Preprocessing
from scanlore.modelfolder.weights import Weights

SMALL = {"name": "vit-tiny", "patch_size": 4, "image_size": 8}


def weights_of(architecture, **facts):
    state = unique_state(build_backbone(architecture, 3))
    heads = {"dino_head.mlp.0.bias": torch.zeros(3)}
    return Weights("M", architecture, state, heads, Preprocessing(ndim=3, input_size=8), facts)


def test_dinov2s_layout_is_a_plain_dict_of_the_backbone(tmp_path):
    weights, path = weights_of(ViTSettings(**SMALL)), tmp_path / "m.pth"
    path.write_bytes(export_bytes(weights, "dinov2"))
    found = torch.load(path, weights_only=True)
    assert type(found) is dict
    assert found.keys() == weights.backbone.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in weights.backbone.items())


def test_safetensors_say_what_the_network_is(tmp_path):
    architecture = ViTSettings(**SMALL, positions="rope")
    weights, path = weights_of(architecture, licence="CC0", provenance={"recipe": "r"}), tmp_path / "m.safetensors"
    path.write_bytes(export_bytes(weights, "safetensors"))
    with safe_open(path, "pt") as file:
        facts = {
            key: value if key in ("format", "scanlore") else json.loads(value) for key, value in file.metadata().items()
        }
        found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dict
    assert ViTSettings(**facts["architecture"]) == architecture
    assert Preprocessing(**facts["preprocessing"]) == weights.preprocessing
    assert (facts["licence"], facts["provenance"], facts["format"]) == ("CC0", {"recipe": "r"}, "pt")
    assert found.keys() == weights.backbone.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in weights.backbone.items())


@pytest.mark.parametrize("layout", ["dinov2", "safetensors"])
def test_the_same_weights_give_the_same_bytes_and_no_more_than_they_hold(layout):
    weights = weights_of(ViTSettings(**SMALL))
    whole = torch.stack(list(weights.backbone["cls_token"].expand(100, -1, -1)))
    content = export_bytes(weights, layout)
    weights.backbone["cls_token"] = whole[:1]
    assert export_bytes(weights, layout) == content
    assert len({export_bytes(weights, layout) for _ in range(4)}) == 1


@pytest.mark.parametrize(
    ("architecture", "says"),
    [
        (ResEncSettings(name="resenc-tiny"), "resenc-tiny is no vision transformer"),
        (ViTSettings(**SMALL, positions="rope"), "has no rotary positions"),
    ],
)
def test_dinov2s_layout_cannot_hold_every_network(architecture, says):
    with pytest.raises(ModelError, match=says):
        export_bytes(weights_of(architecture), "dinov2")
    assert export_bytes(weights_of(architecture), "safetensors")


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ({}, 2),
        ({"pos_offset": 0.1}, 1),
        ({"ndim": 2, "pos_interpolation": "cubic", "pos_offset": 0.1}, 1),
        ({"ndim": 2, "pos_interpolation": "cubic", "pos_antialias": True, "num_registers": 4}, 1),
        ({"ndim": 2, "pos_interpolation": "cubic", "pos_offset": 0.1, "num_registers": 4}, 2),
    ],
)
def test_what_the_file_cannot_say_is_said(options, count):
    architecture = ViTSettings(**SMALL | options)
    assert len(untold(architecture, "dinov2")) == count
    assert untold(architecture, "safetensors") == untold(ResEncSettings(name="resenc-tiny"), "safetensors") == ()
