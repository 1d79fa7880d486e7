from pathlib import Path

import pytest
import torch

from published_weights import SIZES, as_transformers, backbone_state, head_state, teacher_state
from scanlore.backbones.settings import ViTSettings
from scanlore.errors import ModelError
from scanlore.modelfolder.published.infer import infer_architecture
from scanlore.modelfolder.published.load import shapes_of
from scanlore.modelfolder.published.names import our_names, root
from scanlore.registry import BACKBONES, BackboneEntry

HERE = Path("w.pth")
TRUE = {
    "vit-small": (384, 12, 6, "mlp"),
    "vit-base": (768, 12, 12, "mlp"),
    "vit-large": (1024, 24, 16, "mlp"),
    "vit-giant": (1536, 40, 24, "swiglu"),
}


@pytest.fixture
def _true_sizes(monkeypatch):
    for name, (width, depth, heads, ffn) in TRUE.items():
        monkeypatch.setitem(BACKBONES, name, BackboneEntry("vit", width, depth, heads, ffn))


def same(found, expected):
    return found.keys() == expected.keys() and all(torch.equal(found[name], t) for name, t in expected.items())


@pytest.mark.usefixtures("_true_sizes")
@pytest.mark.parametrize("registers", [0, 4])
@pytest.mark.parametrize("size", SIZES)
def test_every_published_dinov2(size, registers):
    state = backbone_state(*SIZES[size], registers=registers, swiglu=size == "g", device="meta")
    named = our_names(state, HERE)
    architecture = infer_architecture(named.backbone, HERE)
    assert {name: tuple(t.shape) for name, t in named.backbone.items()} == shapes_of(architecture)
    assert (architecture.name[4], architecture.image_size, architecture.patch_size) == (size, 518, 14)
    resizing = architecture.pos_interpolation, architecture.pos_offset, architecture.pos_antialias
    assert resizing == (("cubic", 0.0, True) if registers else ("cubic", 0.1, False))
    assert (named.adapted, named.others, named.heads) == ([], [], {})


@pytest.mark.usefixtures("_true_sizes")
@pytest.mark.parametrize(("edge", "size"), [(6, 96), (7, 112)])
def test_3dino_vit(edge, size):
    state = backbone_state(1024, 24, (edge,) * 3, patch=16, channels=1, chunks=4, device="meta")
    assert len(state) == 343
    assert {"blocks.0.5.norm1.bias", "blocks.1.6.norm1.bias", "blocks.3.23.norm1.bias"} <= state.keys()
    named = our_names({f"backbone.{name}": t for name, t in state.items()}, HERE)
    architecture = infer_architecture(named.backbone, HERE)
    expected = ViTSettings(name="vit-large", patch_size=16, image_size=size, pos_offset=0.1)
    assert architecture == expected
    assert {name: tuple(t.shape) for name, t in named.backbone.items()} == shapes_of(architecture)


@pytest.mark.parametrize("parametrized", [False, True])
def test_teacher_with_its_heads_in_both_spellings(flat, parametrized):
    content = teacher_state(flat, parametrized)["teacher"]
    named = our_names(content, HERE)
    assert same(named.backbone, flat)
    assert {name for name in named.heads if name.startswith("ibot")} == {f"ibot_head.{name}" for name in head_state(24)}
    last = [value for name, value in content.items() if "dino_head.last_layer" in name]
    assert torch.equal(named.heads["dino_head.last_layer.weight_g"], last[0])
    assert torch.equal(named.heads["dino_head.last_layer.weight_v"], last[1])


@pytest.mark.parametrize(
    "wrap",
    [
        "module.{}",
        "_orig_mod.{}",
        "backbone.{}",
        "teacher.backbone.{}",
        "module._fsdp_wrapped_module.backbone._orig_mod.{}",
    ],
)
def test_prefixes_of_wrappers(flat, wrap):
    assert same(our_names({wrap.format(name): t for name, t in flat.items()}, HERE).backbone, flat)


def test_wrappers_within_names(flat):
    wrapped = {
        name.replace("blocks.1.", "blocks.1._fsdp_wrapped_module._checkpoint_wrapped_module."): t
        for name, t in flat.items()
    }
    assert same(our_names(wrapped, HERE).backbone, flat)


def test_blocks_in_chunks_keep_their_number(flat):
    chunked = backbone_state(24, 4, grid=(2, 2), chunks=2)
    assert same(our_names(chunked, HERE).backbone, flat)


def test_a_checkpoint_of_both_networks_gives_the_teacher(flat):
    both = {f"teacher.backbone.{name}": t for name, t in flat.items()}
    both |= {f"student.backbone.{name}": t + 1 for name, t in flat.items()} | {"dino_loss.center": torch.zeros(1)}
    named = our_names(both, HERE)
    assert same(named.backbone, flat)
    assert len(named.others) == len(flat) + 1


@pytest.mark.parametrize(("registers", "swiglu", "prefix"), [(0, False, ""), (4, False, "dinov2."), (4, True, "")])
def test_transformers(registers, swiglu, prefix):
    state = backbone_state(24, 4, grid=(2, 2), registers=registers, swiglu=swiglu)
    theirs = {f"{prefix}{name}": t for name, t in as_transformers(state).items()}
    assert f"{prefix}encoder.layer.3.layer_scale2.lambda1" in theirs
    named = our_names(theirs, HERE)
    assert same(named.backbone, state)
    assert len(named.adapted) == 8


def test_two_networks_in_one_file_are_refused(flat):
    with pytest.raises(ModelError, match=r"w\.pth: two tensors mean cls_token"):
        our_names(flat | {"backbone.cls_token": flat["cls_token"]}, HERE)


def test_a_shard_of_one_process_is_refused():
    with pytest.raises(ModelError, match="that one process wrote"):
        our_names({"student.backbone._fsdp_wrapped_module._flat_param": torch.zeros(3)}, HERE)


@pytest.mark.parametrize(
    ("count", "power", "edge"), [(1369, 2, 37), (343, 3, 7), (1370, 2, None), (0, 2, None), (215, 3, None)]
)
def test_roots(count, power, edge):
    assert root(count, power) == edge
