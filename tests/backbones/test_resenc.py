import copy
import pickle
from functools import partial

import pytest
import torch
from dynamic_network_architectures.architectures.unet import ResidualEncoderUNet
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from scanlore.backbones.build import build_backbone
from scanlore.backbones.masked_norm import MaskedInstanceNorm3d
from scanlore.backbones.resenc import ResEnc, visible_at
from scanlore.backbones.settings import ResEncSettings
from scanlore.errors import DataError
from scanlore.registry import BACKBONES


@pytest.fixture
def network(small):
    """Three stages of a few channels, with norms that are not at their initial values."""
    return stir(small("resenc-tiny"))


def stir(network):
    generator = torch.Generator().manual_seed(1)
    for name, parameter in network.named_parameters():
        if parameter.ndim == 1:
            nn.init.normal_(parameter, mean=float("norm" in name and "weight" in name), std=0.2, generator=generator)
    return network


@pytest.fixture
def x(views_for, network):
    return views_for(network, 16, 16, 8)


@pytest.fixture
def visible():
    """One block of eight voxels visible in the first sample, three of four in the second."""
    return torch.tensor([[True, False, False, False], [True, True, False, True]]).view(2, 1, 2, 2, 1)


def parent_of(network):
    """Build the class of dynamic-network-architectures with the same weights."""
    entry, dims = BACKBONES[network.settings.name], network.ndim
    plain = ResidualEncoderUNet(
        network.in_channels,
        len(entry.features),
        entry.features,
        nn.Conv3d if dims == 3 else nn.Conv2d,
        3,
        (1, *(2,) * (len(entry.features) - 1)),
        entry.blocks,
        network.settings.out_channels,
        1,
        conv_bias=True,
        norm_op=nn.InstanceNorm3d if dims == 3 else nn.InstanceNorm2d,
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
    )
    plain.load_state_dict(network.state_dict())
    return plain


def explicit(network, x, visible):
    """Run the encoder with every convolution, pooling and norm output masked, norms by gathering."""

    def masked(values):
        mask = visible.float()
        while mask.shape[2] > values.shape[2]:
            mask = F.max_pool3d(mask, 2)
        return values * F.interpolate(mask, size=values.shape[2:])

    def norm(layer, values):
        out = torch.zeros_like(values)
        for sample, keep in enumerate(masked(torch.ones_like(values))[:, 0].bool()):
            normed = F.instance_norm(values[sample, :, keep][None], weight=layer.weight, bias=layer.bias)
            out[sample, :, keep] = normed[0]
        return out

    def block(layer, values):
        if isinstance(layer, nn.AvgPool3d):
            return masked(layer(values))
        values = norm(layer.norm, masked(layer.conv(values)))
        return F.leaky_relu(values) if hasattr(layer, "nonlin") else values

    values, maps = block(network.encoder.stem.convs[0], masked(x)), []
    for stage in network.encoder.stages:
        for residual in stage.blocks:
            skip = values
            for layer in residual.skip if isinstance(residual.skip, nn.Module) else ():
                skip = block(layer, skip)
            values = F.leaky_relu(block(residual.conv2, block(residual.conv1, values)) + skip)
        maps.append(values)
    return maps


@pytest.mark.parametrize("grid", ["blocks", "finer than the last stages"])
def test_sparse_equals_masking_every_layer(network, x, visible, grid):
    if grid != "blocks":
        visible = torch.rand(2, 1, 8, 8, 4, generator=torch.Generator().manual_seed(2)) < 0.4
    for ours, theirs in zip(network.maps(x, visible), explicit(network, x, visible), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_the_gradient_of_sparse_equals_that_of_masking_every_layer(network, x, visible):
    gradients = []
    for maps in (network.maps(x, visible), explicit(network, x, visible)):
        network.zero_grad()
        sum((m**2).mean() for m in maps).backward()
        gradients.append([p.grad.clone() for p in network.encoder.parameters()])
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)


def test_hidden_voxels_have_no_influence(network, x, visible):
    hidden = visible_at(visible, x) == 0
    other = torch.where(hidden, 1000 * torch.randn_like(x), x)
    for first, second in zip(network.maps(x, visible), network.maps(other, visible), strict=True):
        assert torch.equal(first, second)
        assert not first[(visible_at(visible, first) == 0).expand_as(first)].any()


def test_samples_with_other_ratios_do_not_see_each_other(network, x, visible):
    together = network.maps(x, visible)
    for sample in range(2):
        alone = network.maps(x[sample, None], visible[sample, None])
        for one, both in zip(alone, together, strict=True):
            torch.testing.assert_close(one[0], both[sample], rtol=1e-4, atol=1e-4)


def test_a_sample_without_a_visible_block_is_safe(network, x, visible):
    visible = visible.clone()
    visible[0] = False
    maps = network.maps(x, visible)
    network.decode(maps).square().mean().backward()
    assert all(m.isfinite().all() and not m[0].any() for m in maps)
    assert all(p.grad.isfinite().all() for p in network.parameters() if p.requires_grad)


@pytest.mark.parametrize("is_sparse", [True, False])
def test_every_parameter_gets_a_gradient(network, x, visible, is_sparse):
    network.decode(network.maps(x, visible if is_sparse else None)).square().sum().backward()
    trained = {name: p.grad for name, p in network.named_parameters() if p.requires_grad}
    assert [name for name, gradient in trained.items() if gradient is None or not gradient.any()] == []
    fixed = network.state_dict(keep_vars=True).keys() - trained.keys()
    assert {name for name in fixed if "seg_layers" in name} == {
        "decoder.seg_layers.0.weight",
        "decoder.seg_layers.0.bias",
    }


@pytest.mark.parametrize("ndim", [2, 3])
def test_dense_is_its_parent_to_the_bit(small, views_for, visible, ndim):
    network = stir(small("resenc-tiny", ndim, out_channels=2))
    x, plain = views_for(network), parent_of(network)
    network.maps(x, torch.ones(2, 1, *(1,) * ndim))
    out, expected = network(x), plain(x)
    assert torch.equal(out, expected)
    out.sum().backward()
    expected.sum().backward()
    theirs = dict(plain.named_parameters())
    assert all(torch.equal(p.grad, theirs[name].grad) for name, p in network.named_parameters() if p.requires_grad)
    assert network.state_dict().keys() == plain.state_dict().keys()


def test_masks_stay_until_the_next_call(network, x, visible):
    norms = [layer for layer in network.modules() if isinstance(layer, MaskedInstanceNorm3d)]
    of_encoder = set(network.encoder.modules())
    network.decode(network.maps(x, visible))
    assert all((layer.visible is not None) == (layer in of_encoder) for layer in norms)
    network.forward_features(x)
    assert all(layer.visible is None for layer in norms)


def test_checkpointing_computes_the_same_again(network, x, visible):
    def gradients():
        network.zero_grad()
        network.maps(x, visible)[-1].square().sum().backward()
        return [p.grad.clone() for p in network.encoder.parameters()]

    expected, stage = gradients(), network.encoder.stages[1]
    stage.forward = partial(checkpoint, stage.forward, use_reentrant=False)
    assert all(map(torch.equal, gradients(), expected))


def test_copies_are_whole_and_keep_their_twins_tied(network, x, visible):
    maps = network.maps(x, visible)
    twin = copy.deepcopy(network)
    assert all(map(torch.equal, maps, twin.maps(x, visible)))
    assert len(list(twin.parameters())) == len(list(network.parameters()))
    with torch.no_grad():
        twin.encoder.stem.convs[0].conv.weight.zero_()
    assert not twin.decoder.encoder.stem.convs[0].all_modules[0].weight.any()
    assert network.encoder.stem.convs[0].conv.weight.any()


def test_initial_weights_are_nnunets(small):
    network = small("resenc-tiny")
    weight = network.encoder.stages[1].blocks[0].conv2.conv.weight
    assert weight.std().item() == pytest.approx((2 / (weight[0].numel() * (1 + 1e-4))) ** 0.5, rel=0.05)
    assert not network.encoder.stem.convs[0].conv.bias.any()
    assert not network.encoder.stages[2].blocks[0].conv2.norm.weight.any()
    assert network.encoder.stages[2].blocks[0].conv1.norm.weight.eq(1).all()


def test_the_large_one_has_the_size_of_the_papers():
    with torch.device("meta"):
        network = build_backbone(ResEncSettings(name="resenc-l"))
    counts = [sum(p.numel() for p in part.parameters()) for part in (network, network.encoder)]
    assert [round(count / 1e6, 2) for count in counts] == [102.35, 90.30]
    assert len(network.state_dict()) == 956


@pytest.mark.parametrize(
    ("shape", "says"),
    [
        ((1, 1, 16, 16, 18), r"views of 16x16x18 voxels .*multiples of 4, e\.g\. 16x16x16"),
        ((1, 1, 4, 4, 4), r"e\.g\. 8x8x8"),
        ((1, 1, 3, 16, 16), r"e\.g\. 8x16x16"),
        ((1, 2, 8, 8, 8), r"takes \(B, 1, X, Y, Z\)"),
        ((1, 1, 8, 8), r"takes \(B, 1, X, Y, Z\)"),
    ],
)
def test_views_that_do_not_fit_are_refused(network, shape, says):
    for call in (network, network.maps, network.forward_features):
        with pytest.raises(DataError, match=says):
            call(torch.zeros(shape))


def test_a_mask_that_does_not_divide_the_view_is_refused(network, x):
    with pytest.raises(DataError, match="a mask of 3x2x1 blocks does not divide views of 16x16x8 voxels"):
        network.maps(x, torch.ones(2, 1, 3, 2, 1))


def test_masks_at_other_resolutions():
    visible = torch.tensor([[1, 0, 0, 0]]).view(1, 1, 1, 4).bool()
    assert visible_at(visible, torch.zeros(1, 7, 1, 8)).flatten().tolist() == [1, 1, 0, 0, 0, 0, 0, 0]
    assert visible_at(visible, torch.zeros(1, 7, 1, 2)).flatten().tolist() == [1, 0]
    assert visible_at(visible, torch.zeros(1, 7, 1, 3)).flatten().tolist() == [1, 0, 0]


def test_half_precision_pass(network, x, visible):
    with torch.autocast("cpu", torch.bfloat16):
        out = network.decode(network.maps(x, visible))
    assert out.isfinite().all()
    out.float().square().sum().backward()
    assert network.encoder.stem.convs[0].conv.weight.grad.any()


def test_sparse_compiles_as_one_graph(network, x, visible):
    torch._dynamo.reset()
    compiled = torch.compile(network.encoder, backend="eager", fullgraph=True)
    expected = network.maps(x, visible)
    for ours, theirs in zip(compiled(x * visible_at(visible, x)), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_settings_are_kept(network):
    assert isinstance(network, ResEnc)
    assert pickle.loads(pickle.dumps(network.settings)) == network.settings
