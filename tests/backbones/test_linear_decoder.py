import pytest
import torch

from scanlore.backbones.linear_decoder import LinearDecoder
from scanlore.errors import DataError


def test_logits_have_the_size_of_the_view(network, views_for):
    decoder = LinearDecoder(network, num_classes=3, num_layers=2)
    x = views_for(network, *(8, 12, 16)[: network.ndim])
    assert decoder(x).shape == (2, 3, *x.shape[2:])
    assert (decoder.ndim, decoder.in_channels, decoder.patch_size) == (network.ndim, 1, network.patch_size)


def test_the_head_alone_is_trained(network, views_for):
    decoder = LinearDecoder(network, 2, 2).train()
    assert not network.training
    decoder(views_for(network)).square().sum().backward()
    trained = {name for name, p in decoder.named_parameters() if p.requires_grad}
    assert trained == {f"head.{name}" for name in decoder.head.state_dict()}
    assert all(p.grad.any() for p in decoder.head.parameters())
    assert all(p.grad is None for p in network.parameters())


def test_logits_of_patches_are_two_linear_layers(small, views_for):
    vit = small("vit-tiny")
    decoder, x = LinearDecoder(vit, 2, 3), views_for(vit)
    maps = vit.forward_features(x, 3).maps
    project, classify = (layer.weight.flatten(1) for layer in (decoder.head.project, decoder.head.classify))
    hidden = [
        torch.einsum("od,bdxyz->boxyz", project, m) + decoder.head.project.bias.view(1, -1, 1, 1, 1) for m in maps
    ]
    expected = torch.einsum("kd,bdxyz->bkxyz", classify, torch.cat([torch.nn.functional.gelu(h) for h in hidden], 1))
    expected = expected + decoder.head.classify.bias.view(1, -1, 1, 1, 1)
    upsampled = torch.nn.functional.interpolate(expected, size=(8, 8, 8), mode="trilinear")
    torch.testing.assert_close(decoder(x), upsampled, rtol=1e-4, atol=1e-5)


def test_every_map_of_a_pyramid_counts(small, views_for):
    cnn = small("resenc-tiny")
    decoder, x = LinearDecoder(cnn, 2, 1), views_for(cnn)
    before = decoder(x)
    for layer in decoder.head.classify:
        torch.nn.init.zeros_(layer.weight)
        after = decoder(x)
        assert not torch.equal(before, after)
        before = after


def test_layers_the_backbone_lacks(small):
    with pytest.raises(DataError, match="layers 4 of a network that has 3"):
        LinearDecoder(small("vit-tiny"), 2, 4)
