import pytest
import torch

from scanlore.backbones.features import Backbone
from scanlore.backbones.pixels import Pixels


@pytest.mark.parametrize("ndim", [2, 3])
def test_features_are_the_view(ndim):
    network, x = Pixels(4, ndim), torch.randn(2, 1, *(4,) * ndim)
    features = network.forward_features(x)
    assert isinstance(network, Backbone)
    assert features.embeddings[0].shape == (2, network.embed_dim) == (2, 4**ndim)
    assert torch.equal(features.embeddings[0], (x.flatten(1) + 1) / 2)
    assert torch.equal(features.maps[0].flatten(1), features.embeddings[0])
    assert features.norm == "none"
