import logging
import shutil

import pytest
import torch
import yaml
from safetensors.torch import save_file

from published_weights import backbone_state, teacher_state
from scanlore.backbones.build import build_backbone
from scanlore.backbones.settings import ResEncSettings, ViTSettings
from scanlore.backbones.unique import unique_state
from scanlore.errors import ModelError
from scanlore.modelfolder.folder import save_model_folder
from scanlore.modelfolder.licences import THREE_DINO, may_export
from scanlore.modelfolder.preprocessing import Preprocessing
from scanlore.modelfolder.reference import load_model
from scanlore.modelfolder.weights import describe, load_network, open_weights


@pytest.fixture
def flat(tmp_path):
    """A file of 2D weights, vit-tiny of conftest.py."""
    torch.save(backbone_state(24, 2, grid=(2, 2)), tmp_path / "dinov2.pth")
    return tmp_path / "dinov2.pth"


@pytest.fixture
def three_d(tmp_path):
    """A teacher of 3DINO with its heads."""
    state = backbone_state(24, 2, grid=(2, 2, 2), patch=4, channels=1, chunks=2)
    torch.save(teacher_state(state), tmp_path / "3dino.pth")
    return tmp_path / "3dino.pth"


def test_a_model_folder_with_heads(folder, architecture):
    heads = {"dino_head.mlp.0.bias": torch.ones(3)}
    backbone = build_backbone(architecture, 5)
    save_model_folder(folder, backbone, architecture, Preprocessing(ndim=3, input_size=8), {}, "CC0", heads)
    weights = open_weights(folder)
    assert (weights.architecture, weights.facts["licence"]) == (architecture, "CC0")
    assert torch.equal(weights.heads["dino_head.mlp.0.bias"], torch.ones(3))
    assert all(torch.equal(weights.backbone[name], t) for name, t in backbone.state_dict().items())
    assert describe(folder)["heads"] == ["dino_head"]


def test_a_folder_of_a_cnn_has_each_tensor_once(cnn_folder):
    weights, network = open_weights(cnn_folder), build_backbone(ResEncSettings(name="resenc-tiny"), 5)
    assert weights.backbone.keys() == unique_state(network).keys()
    x = torch.randn(1, 1, 8, 8, 8)
    assert torch.equal(load_network(weights)(x), network(x))


def test_published_weights_as_a_model(flat, caplog):
    with caplog.at_level(logging.INFO, logger="scanlore"):
        model = load_model(f"dinov2:{flat}")
    assert any("loaded: 35 tensors" in line for line in caplog.messages)
    assert model(torch.randn(2, 3, 28, 28)).shape == (2, 24)
    assert model.preprocessing.mean is not None
    assert not model.training
    assert describe(f"dinov2:{flat}")["read"] == ["loaded: 35 tensors (blocks.0.attn.proj.bias ...)"]


def test_3dino_with_heads_may_be_used_and_not_exported(three_d):
    weights = open_weights(f"3dino:{three_d}")
    assert {name.partition(".")[0] for name in weights.heads} == {"dino_head", "ibot_head"}
    assert load_model(f"3dino:{three_d}")(torch.randn(1, 1, 8, 8, 8)).shape == (1, 24)
    assert may_export(weights.facts)


@pytest.fixture
def run(tmp_path, architecture):
    """A run folder with settings and no checkpoint yet."""
    folder = tmp_path / "R"
    folder.mkdir()

    def start(weights):
        config = {"backbone": architecture.model_dump(mode="json"), "start": {"weights": weights}}
        config["views"] = {"ndim": 3, "scaling": "zscore", "window": None, "global_crops": {"size": 8}}
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        return folder

    return start


def checkpoint(run, architecture):
    import torch.distributed.checkpoint as dcp

    state = build_backbone(architecture, 3).state_dict()
    named = {f"method.teacher.backbone.{name}": tensor for name, tensor in state.items()}
    named |= {f"method.student.backbone.{name}": tensor + 1 for name, tensor in state.items()}
    named |= {
        "method.teacher.dino_head.mlp.0.bias": torch.ones(2),
        "method.student.dino_head.mlp.0.bias": torch.ones(3),
    }
    planner = dcp.DefaultSavePlanner(flatten_state_dict=False, flatten_sharded_tensors=False)
    writer = dcp.FileSystemWriter(run / "checkpoints" / "step_00000002")
    dcp.save(named, storage_writer=writer, planner=planner, no_dist=True)


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_a_checkpoint_has_the_heads_of_the_teacher_and_the_licence_of_its_start(run, architecture, folder, three_d):
    expected = build_backbone(architecture, 3).state_dict()
    for start, licence in (
        (None, "of the one who trained it"),
        (str(folder), "CC0"),
        (f"3dino:{three_d}", THREE_DINO),
        ("3dino:gone.pth", THREE_DINO),
        ("gone", "not known: that of gone, which it continues"),
        ("stage one", "CC0"),
    ):
        here = run(start)
        if start is None:
            checkpoint(here, architecture)
            shutil.copytree(folder, here.parent / "one" / "model")
        weights = open_weights(f"{here}@2")
        assert weights.facts["licence"] == licence
        assert list(weights.heads) == ["dino_head.mlp.0.bias"]
        assert len(weights.heads["dino_head.mlp.0.bias"]) == 2
        assert all(torch.equal(weights.backbone[name], tensor) for name, tensor in expected.items())


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        ("random:vit-tiny", "has no stored weights"),
        ("pixels:8", "has no stored weights"),
        ("3dino:", "names no file"),
        ("3dino:gone.pth", "there is no such file"),
        ("dinov3:vits14", "did you mean 'dinov2:vits14'"),
        ("gone", "there is no such model"),
    ],
)
def test_references_without_weights(reference, says):
    with pytest.raises(ModelError, match=says) as error:
        open_weights(reference)
    assert "\n" not in str(error.value)


def test_an_exported_file_says_what_it_is(tmp_path):
    from scanlore.modelfolder.export import export_bytes

    architecture = ViTSettings(name="vit-tiny", patch_size=4, image_size=8, positions="rope")
    preprocessing = Preprocessing(ndim=3, input_size=8, scaling="zscore", embedding="mean")
    network = build_backbone(architecture, 1)
    save_model_folder(tmp_path / "M", network, architecture, preprocessing, {"recipe": "r"}, "CC0")
    path = tmp_path / "m.safetensors"
    path.write_bytes(export_bytes(open_weights(tmp_path / "M"), "safetensors"))
    weights = open_weights(f"dinov2:{path}")
    assert (weights.architecture, weights.preprocessing) == (architecture, preprocessing)
    assert (weights.facts["licence"], weights.facts["provenance"]["recipe"]) == ("CC0", "r")
    cnn = build_backbone(ResEncSettings(name="resenc-tiny"))
    save_model_folder(tmp_path / "N", cnn, cnn.settings, preprocessing, {})
    path.write_bytes(export_bytes(open_weights(tmp_path / "N"), "safetensors"))
    with pytest.raises(ModelError, match="holds a U-Net"):
        open_weights(f"dinov2:{path}")


def test_a_file_named_without_its_kind_says_how(flat):
    save_file({"x": torch.zeros(1)}, flat.with_suffix(".safetensors"))
    for path in (flat, flat.with_suffix(".safetensors")):
        with pytest.raises(ModelError, match=r"is no model folder .*dinov2:FILE"):
            open_weights(path)
