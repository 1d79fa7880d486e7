"""Every method that trains a ViT takes one with rotary positions."""

import pytest
import torch

from scanlore.backbones.settings import ViTSettings
from scanlore.backbones.vit import ViT
from scanlore.methods.contract import Progress
from scanlore.methods.mae.method import build
from scanlore.methods.mae.settings import MaeDecoderSettings, MaeSettings
from scanlore.registry import BACKBONES, BackboneEntry
from scanlore.views.loader import Batch, ViewGroup
from tiny_pretraining import random_batch, tiny_method, tiny_settings

START = Progress(0, 10)
ROTARY = ["backbone.positions=rope", "backbone.rope_rescale=2.0", "backbone.num_registers=2", "backbone.drop_path=0.5"]


@pytest.fixture(autouse=True)
def small_vit(monkeypatch):
    monkeypatch.setitem(BACKBONES, "vit-tiny", BackboneEntry("vit", 24, 2, 3))


def without_gradient(parameters):
    return [name for name, weight in parameters if weight.grad is None or not weight.grad.any()]


@pytest.mark.parametrize("ndim", [2, 3])
def test_dino(ndim):
    settings = tiny_settings(*ROTARY, ndim=ndim)
    method = tiny_method(settings).train()
    sum(method(random_batch(settings), START).values()).backward()
    assert without_gradient(method.student.named_parameters()) == []
    assert not method.teacher.training  # its places are not rescaled


@pytest.mark.parametrize("ndim", [2, 3])
def test_mae(ndim):
    torch.manual_seed(0)
    architecture = ViTSettings(name="vit-tiny", ndim=ndim, patch_size=4, image_size=8, positions="rope")
    decoder = MaeDecoderSettings(depth=1, width=24, heads=2)
    method = build(ViT(architecture), MaeSettings(decoder=decoder)).train()
    masks = torch.zeros(2, 2**ndim, dtype=torch.bool)
    masks[0, :2] = masks[1, 1:3] = True
    empty = torch.empty(0)
    group = ViewGroup(torch.randn(2, 1, *(8,) * ndim), empty, empty, empty, empty)
    method(Batch(0, ["a", "b"], {"views": group}, masks), START)["reconstruction"].backward()
    trained = [(rule.name, method.get_parameter(rule.name)) for rule in method.param_rules()]
    assert without_gradient(trained) == []
