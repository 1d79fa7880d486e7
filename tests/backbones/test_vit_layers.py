import numpy as np
import pytest
import torch

from scanlore.backbones.vit_layers import Attention, Block, SwiGlu, pack


def groups(*shapes):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(*shape, 12, generator=generator) for shape in shapes]


def test_packing_goes_there_and_back():
    parts = groups((2, 5), (3, 4), (1, 1))
    tokens, packing = pack(parts)
    assert tokens.shape == (23, 12)
    assert packing.lengths == [10, 12, 1]
    assert all(map(torch.equal, packing.split(tokens), parts))


def test_attention_against_numpy():
    layer, (x,) = Attention(12, 3), groups((2, 5))
    tokens, packing = pack([x])
    qkv = (x.numpy() @ layer.qkv.weight.detach().numpy().T + layer.qkv.bias.detach().numpy()).reshape(2, 5, 3, 3, 4)
    q, k, v = (qkv[:, :, i].transpose(0, 2, 1, 3) for i in range(3))
    scores = np.exp(q @ k.transpose(0, 1, 3, 2) / 2)
    attended = (scores / scores.sum(-1, keepdims=True) @ v).transpose(0, 2, 1, 3).reshape(10, 12)
    expected = attended @ layer.proj.weight.detach().numpy().T + layer.proj.bias.detach().numpy()
    np.testing.assert_allclose(layer(tokens, packing).detach(), expected, atol=1e-6)


def test_swiglu_against_numpy():
    layer, x = SwiGlu(6, 24), torch.randn(5, 6)
    assert layer.w12.out_features == 32
    hidden = x.numpy() @ layer.w12.weight.detach().numpy().T + layer.w12.bias.detach().numpy()
    gate, value = hidden[:, :16], hidden[:, 16:]
    expected = (gate / (1 + np.exp(-gate)) * value) @ layer.w3.weight.detach().numpy().T
    np.testing.assert_allclose(layer(x).detach(), expected + layer.w3.bias.detach().numpy(), atol=1e-6)


def dropping(rate, attend):
    """A block of which only one branch does anything."""
    block = Block(12, 3, "mlp", layer_scale=1.0, drop_path=rate).train()
    torch.nn.init.zeros_((block.ls2 if attend else block.ls1).gamma)
    return block


@pytest.mark.parametrize("attend", [True, False])
@pytest.mark.parametrize(("rate", "kept"), [(0.25, 3), (0.5, 2), (0.9, 1)])
def test_stochastic_depth_drops_whole_views_and_scales_up_the_others(attend, rate, kept):
    block, (x,) = dropping(rate, attend), groups((4, 5))
    tokens, packing = pack([x])
    residual = packing.split(block.eval()(tokens, packing) - tokens)[0]
    found = packing.split(block.train()(tokens, packing) - tokens)[0]
    dropped = found.flatten(1).abs().sum(1) == 0
    assert int((~dropped).sum()) == kept
    torch.testing.assert_close(found[~dropped], residual[~dropped] * 4 / kept, atol=1e-5, rtol=1e-4)


def test_stochastic_depth_keeps_the_expectation_of_every_view():
    block, parts = dropping(0.5, True), groups((4, 2), (2, 3))
    tokens, packing = pack(parts)
    torch.manual_seed(0)
    with torch.no_grad():
        mean = torch.stack([block(tokens, packing) for _ in range(1500)]).mean(0)
        torch.testing.assert_close(mean, block.eval()(tokens, packing), atol=0.1, rtol=0)
        assert (block(tokens, packing) - tokens).abs().max() > 0.5


def test_stochastic_depth_passes_gradients_to_dropped_views():
    block, (x,) = dropping(0.5, True), groups((4, 5))
    tokens, packing = pack([x])
    tokens.requires_grad_()
    block(tokens, packing).square().sum().backward()
    assert tokens.grad.unflatten(0, (4, 5)).flatten(1).any(1).all()
