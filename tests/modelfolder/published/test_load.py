from pathlib import Path

import pytest
import torch

from published_weights import backbone_state
from scanlore.errors import ModelError
from scanlore.modelfolder.licences import OF_A_FILE, THREE_DINO
from scanlore.modelfolder.published.files import WeightsFile
from scanlore.modelfolder.published.infer import native_size
from scanlore.modelfolder.published.load import IMAGENET_MEAN, IMAGENET_STD, Source, weights_of

HERE = Path("w.pth")


def read(state, reference="dinov2:w.pth", **facts):
    return weights_of(WeightsFile(HERE, state), Source(reference, **facts))


def refused(state, says, **facts):
    with pytest.raises(ModelError, match=says) as error:
        read(state, **facts)
    assert "\n" not in str(error.value)


def test_dinov2_sees_colours_as_imagenet_has_them(flat):
    weights = read(flat)
    seen = weights.preprocessing
    assert (seen.ndim, seen.in_channels, seen.input_size, seen.scaling) == (2, 3, 28, "percentile-0.05-99.95")
    assert (seen.mean, seen.std) == (IMAGENET_MEAN, IMAGENET_STD)
    assert weights.facts["licence"] == OF_A_FILE
    assert weights.facts["provenance"] == {"published": "dinov2", "file": "w.pth"}


def test_3dino_sees_scans_in_percentiles(three_d):
    weights = read(three_d, "3dino:w.pth", ndim=3, licence=THREE_DINO)
    seen = weights.preprocessing
    assert (seen.ndim, seen.in_channels, seen.input_size, seen.mean) == (3, 1, 8, None)
    assert (seen.scaling, seen.crop) == ("percentile-0.05-99.95", "foreground")
    assert (weights.architecture.pos_offset, weights.architecture.pos_interpolation) == (0.1, "linear")
    assert weights.facts["licence"] == THREE_DINO


def test_what_may_be_3dino_under_another_name_keeps_its_licence():
    state = backbone_state(36, 4, grid=(2, 2, 2), patch=16, channels=1)
    assert read(state).facts["licence"] == THREE_DINO
    assert read(backbone_state(36, 4, grid=(2, 2, 2), patch=8, channels=1)).facts["licence"] == OF_A_FILE


@pytest.mark.parametrize(("grid", "patch", "size"), [(37, 14, 224), (14, 16, 224), (10, 14, 140), (64, 8, 224)])
def test_views_are_as_large_as_dinov2s(grid, patch, size):
    weights = read(backbone_state(24, 4, grid=(grid, grid), patch=patch))
    assert native_size(weights.architecture) == weights.preprocessing.input_size == size


def test_half_precision_becomes_float32(flat):
    weights = read({name: t.half() for name, t in flat.items()})
    assert {t.dtype for t in weights.backbone.values()} == {torch.float32}
    assert torch.equal(weights.backbone["cls_token"], flat["cls_token"].half().float())


def test_no_mask_token_is_said(flat):
    del flat["mask_token"]
    weights = read(flat)
    assert not weights.backbone["mask_token"].any()
    assert weights.report.adapted == (("mask_token", "not stored: zeros, as before training"),)


def without(state, *parts):
    return {name: t for name, t in state.items() if not any(part in name for part in parts)}


def test_half_a_network_is_refused(flat):
    refused(without(flat, "norm2.bias"), r"4 missing \(blocks\.0\.norm2\.bias \.\.\.\)")
    refused(without(flat, "blocks.1."), "block 1 of 4 is missing")
    refused(without(flat, "blocks.3."), "no network has width 24, 3 blocks and mlp .*24 x 4 mlp")
    refused(without(flat, "pos_embed"), "pos_embed is missing")


def test_what_is_no_such_network_is_refused(flat, three_d):
    refused({"encoder.stem.conv.weight": torch.zeros(1)}, "is no vision transformer .*encoder.stem.conv.weight")
    refused(flat | {"storage_tokens": torch.zeros(1, 4, 24)}, "DINOv3 network")
    refused(flat | {"norm_pre.weight": torch.zeros(24)}, r"1 unexpected \(norm_pre\.weight\)")
    refused(flat | {"norm.bias": torch.zeros(25)}, r"1 of another shape \(norm\.bias: \(25,\), not \(24,\)\)")
    refused(flat | {"pos_embed": torch.zeros(1, 8, 24)}, "for 7 patches, which are no square")
    refused(flat | {"patch_embed.proj.weight": torch.zeros(24, 3, 14, 16)}, "14x16 voxels have edges that differ")
    refused(flat, "holds a 2D network.*dinov2:w.pth", ndim=3)
    refused(three_d, "holds a 3D network.*3dino:w.pth", ndim=2)


def test_values_that_are_not_finite_are_refused(flat):
    flat["norm.bias"][3] = torch.nan
    refused(flat, "1 tensors hold values that are not finite, first norm.bias")


@pytest.mark.parametrize("text", ["{", "[]", '{"name": "vit-smal"}', '{"name": "resenc-tiny"}'])
def test_damaged_metadata_is_one_line(flat, text):
    metadata = {"architecture": text, "preprocessing": '{"ndim": 2, "input_size": 28}'}
    with pytest.raises(ModelError) as error:
        weights_of(WeightsFile(HERE, flat, metadata), Source("dinov2:w.pth"))
    assert "\n" not in str(error.value)


def test_the_licence_of_a_model_folder_is_that_of_its_file(tmp_path):
    from scanlore.modelfolder.published.load import _licence_beside

    (tmp_path / "model.json").write_text(
        '{"format_version": 1, "architecture": {}, "preprocessing": {}, "licence": "mine"}'
    )
    assert _licence_beside(tmp_path / "model.safetensors") == "mine"
    assert _licence_beside(tmp_path / "deeper" / "model.safetensors") is None
