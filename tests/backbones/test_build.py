import re

import pytest
import torch

from scanlore.backbones.build import build_backbone
from scanlore.backbones.settings import backbone_settings
from scanlore.registry import BACKBONES


@pytest.mark.parametrize("name", BACKBONES)
def test_notes_in_the_registry_tell_the_parameters(name):
    # Of ViTs as natural images have them
    options = {"ndim": 2, "image_size": 224, "in_channels": 3} if BACKBONES[name].family == "vit" else {}
    with torch.device("meta"):
        network = build_backbone(backbone_settings({"name": name} | options, name))
    number, unit = re.search(r"([\d.]+) ([MB]) parameters", BACKBONES[name].note).groups()
    count = sum(parameter.numel() for parameter in network.parameters())
    assert count == pytest.approx(float(number) * {"M": 1e6, "B": 1e9}[unit], rel=0.04)


@pytest.mark.parametrize("name", ["vit-tiny", "resenc-tiny"])
def test_the_seed_decides_and_leaves_torchs_state_alone(small, name):
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    first, again, other = (small(name, seed=seed).state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.rand(1), expected)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)
