from dataclasses import replace

import pytest
import torch

from scanlore.backbones.build import build_backbone
from scanlore.backbones.settings import ViTSettings
from scanlore.errors import ConfigError, ModelError
from scanlore.modelfolder.folder import save_model_folder
from scanlore.modelfolder.preprocessing import Preprocessing
from scanlore.modelfolder.weights import open_weights
from scanlore.verbs.export import export

SUFFIX = {"dinov2": ".pth", "safetensors": ".safetensors"}


@pytest.fixture
def model(tmp_path):
    """Make a model folder."""

    def make(licence="CC0", **settings):
        architecture = ViTSettings.model_validate({"name": "vit-tiny", "patch_size": 4, "image_size": 8} | settings)
        preprocessing = Preprocessing(ndim=architecture.ndim, input_size=8)
        save_model_folder(tmp_path / "M", build_backbone(architecture, 5), architecture, preprocessing, {}, licence)
        return tmp_path / "M"

    return make


@pytest.mark.parametrize("layout", SUFFIX)
def test_what_is_written_is_read_back_bit_for_bit(tmp_path, model, layout):
    folder, out = model(ndim=2, in_channels=3), tmp_path / "new" / f"m{SUFFIX[layout]}"
    result = export(folder, out, layout)
    before, after = open_weights(folder), open_weights(f"dinov2:{out}")
    assert after.backbone.keys() == before.backbone.keys()
    assert all(torch.equal(after.backbone[name], tensor) for name, tensor in before.backbone.items())
    assert (result.num_tensors, result.licence, result.already_done) == (len(before.backbone), "CC0", False)
    assert result.num_bytes == out.stat().st_size
    assert [path.name for path in out.parent.iterdir()] == [out.name]


def test_the_same_call_again_changes_nothing_and_another_model_is_refused(tmp_path, model):
    out = tmp_path / "m.safetensors"
    first = export(model(), out)
    before = out.stat().st_mtime_ns
    assert export(tmp_path / "M", out) == replace(first, already_done=True)
    with pytest.raises(ConfigError, match="another file of this name"):
        export(model(num_registers=1), out)
    assert out.stat().st_mtime_ns == before


@pytest.mark.parametrize("layout", SUFFIX)
def test_a_licence_that_forbids_it_is_obeyed(tmp_path, model, layout):
    with pytest.raises(ModelError, match="cannot be exported") as error:
        export(model("CC BY-NC-ND 4.0 (3DINO-ViT)"), tmp_path / f"m{SUFFIX[layout]}", layout)
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["M"]


@pytest.mark.parametrize(
    ("name", "layout", "says"),
    [
        ("m.pth", "safetensors", r"must be called \*\.safetensors \(--out m\.safetensors\)"),
        ("m.safetensors", "dinov2", r"must be called \*\.pth or \*\.pt"),
        ("m.pth", "dinov3", "no format 'dinov3'.*did you mean 'dinov2'"),
        ("F.pth", "dinov2", "is a folder"),
        ("file/m.pth", "dinov2", "is a file"),
    ],
)
def test_a_wrong_call_is_one_line_and_leaves_nothing(tmp_path, name, layout, says):
    (tmp_path / "F.pth").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=says):
        export("no-model", tmp_path / name, layout)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["F.pth", "file"]


def test_no_model_is_one_line(tmp_path):
    with pytest.raises(ModelError, match="no such model"):
        export("no-model", tmp_path / "m.pth", "dinov2")


def test_a_full_disk_is_told(tmp_path, model, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("scanlore.verbs.export.write_atomically", full)
    with pytest.raises(Exception, match="the disk is full"):
        export(model(), tmp_path / "m.safetensors")
