from dataclasses import replace

import pytest
import torch

from scanlore.modelfolder.published.files import WeightsFile
from scanlore.modelfolder.published.load import Source, weights_of
from scanlore.modelfolder.weights import load_network
from scanlore.registry import BACKBONES

timm = pytest.importorskip("timm")
# The true width and depth, whatever conftest.py makes of them
SMALL = {"embed_dim": 384, "depth": 12, "num_heads": 6}
GIANT = {"embed_dim": 48, "depth": 2, "num_heads": 3}


def theirs(name, **options):
    """A network of timm of which every parameter matters."""
    torch.manual_seed(0)
    network = timm.create_model(name, img_size=56, **options).eval()
    for part, parameter in network.named_parameters():
        if "gamma" in part or "bias" in part or "token" in part or "pos_embed" in part:
            torch.nn.init.normal_(parameter, std=0.5)
    return network


@pytest.mark.parametrize(
    ("name", "ours", "sizes", "options"),
    [
        ("vit_small_patch14_dinov2", "vit-small", SMALL, {}),
        ("vit_small_patch14_reg4_dinov2", "vit-small", SMALL, {}),
        ("vit_giant_patch14_dinov2", "vit-giant", GIANT, GIANT),
        ("vit_giant_patch14_reg4_dinov2", "vit-giant", GIANT, GIANT),
    ],
)
def test_the_same_weights_give_the_same_features(monkeypatch, tmp_path, name, ours, sizes, options):
    monkeypatch.setitem(BACKBONES, ours, replace(BACKBONES[ours], **sizes))
    network, views = theirs(name, **options), torch.randn(2, 3, 56, 56)
    weights = weights_of(WeightsFile(tmp_path, network.state_dict()), Source(f"timm:{name}"))
    with torch.no_grad():
        expected = network.forward_features(views)
        (tokens,) = load_network(weights).tokens([views])
    torch.testing.assert_close(tokens.cls, expected[:, 0], atol=1e-5, rtol=0)
    torch.testing.assert_close(tokens.patches, expected[:, network.num_prefix_tokens :], atol=1e-5, rtol=0)
    assert not torch.allclose(expected[0], expected[1], atol=1e-2)
    assert weights.architecture.num_registers == (4 if "reg4" in name else 0)
