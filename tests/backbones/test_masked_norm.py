import pytest
import torch
from torch import nn

from scanlore.backbones import masked_norm as module
from scanlore.backbones.masked_norm import MaskedInstanceNorm2d, MaskedInstanceNorm3d, masked_instance_norm


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def gathered(x, visible, weight, bias):
    """Gather visible voxels of each sample, norm them with torch, scatter them into zeros."""
    out = []
    for sample, mask in zip(x, visible[:, 0].bool(), strict=True):
        normed = nn.functional.instance_norm(sample[None, :, mask], weight=weight, bias=bias)[0]
        out.append(torch.zeros_like(sample).masked_scatter(mask.expand_as(sample), normed))
    return torch.stack(out)


@pytest.fixture(params=["cached", "closed form"])
def norm(request, monkeypatch):
    """Both ways, the first in chunks of two channels."""
    monkeypatch.setattr(module, "CHUNK", 2 * 5 * 4 * 6)
    return masked_instance_norm if request.param == "cached" else module._closed_form


@pytest.fixture
def visible():
    """Other voxels, and another number of them, in each of three samples."""
    shares = torch.tensor([0.3, 0.5, 0.9]).view(3, 1, 1, 1, 1)
    return torch.rand(3, 1, 5, 4, 6, generator=torch.Generator().manual_seed(1)) < shares


@pytest.mark.parametrize("affine", [True, False])
def test_equals_gathering_what_is_visible(norm, visible, affine):
    x, upstream = draw(3, 7, 5, 4, 6) + 2, draw(3, 7, 5, 4, 6, seed=3)
    results = []
    for function in (lambda *a: norm(*a, 1e-5), gathered):
        leaf = x.clone().requires_grad_()
        parameters = [draw(7, seed=seed).requires_grad_() for seed in (4, 5)] if affine else [None, None]
        out = function(leaf, visible, *parameters)
        out.backward(upstream)
        results.append([out, leaf.grad, *(p.grad for p in parameters if affine)])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_a_sample_without_a_visible_voxel_is_zero_and_safe(norm, visible):
    visible = visible.clone()
    visible[1] = False
    leaf, weight = draw(3, 7, 5, 4, 6).requires_grad_(), torch.ones(7, requires_grad=True)
    out = norm(leaf, visible, weight, torch.ones(7), 1e-5)
    out.sum().backward()
    assert not out[1].any()
    assert not leaf.grad[1].any()
    assert leaf.grad.isfinite().all()
    assert weight.grad.isfinite().all()


def test_constant_voxels_are_safe(norm, visible):
    out = norm(torch.full((3, 2, 5, 4, 6), 7.0), visible, None, None, 1e-5)
    assert out.abs().max() < 1e-2


def test_hidden_voxels_change_nothing_and_get_no_gradient(norm, visible):
    x, noise = draw(3, 2, 5, 4, 6), draw(3, 2, 5, 4, 6, seed=8) * 100
    leaf = torch.where(visible, x, noise).requires_grad_()
    out = norm(leaf, visible, None, None, 1e-5)
    assert torch.equal(out, norm(x * visible, visible, None, None, 1e-5))
    out.square().sum().backward()
    assert not (leaf.grad * ~visible).any()


def test_statistics_far_from_zero_stay_exact(norm, visible):
    x = draw(3, 2, 5, 4, 6)
    expected, shifted = (norm(values, visible, None, None, 1e-5) for values in (x, x + 1000))
    torch.testing.assert_close(shifted, expected, rtol=0, atol=2e-3)


def test_half_precision_keeps_its_dtype_and_exact_statistics(norm, visible):
    x = (draw(3, 2, 5, 4, 6) + 30).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        out = norm(x, visible, None, None, 1e-5)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out, gathered(x.float(), visible, None, None).bfloat16(), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize(
    ("masked", "parent", "shape"),
    [
        (MaskedInstanceNorm2d, nn.InstanceNorm2d, (2, 3, 6, 5)),
        (MaskedInstanceNorm3d, nn.InstanceNorm3d, (2, 3, 4, 6, 5)),
    ],
)
def test_without_a_mask_it_is_its_parent(masked, parent, shape):
    layer, plain, x = masked(3, affine=True), parent(3, affine=True), draw(*shape)
    assert torch.equal(layer(x), plain(x))
    assert layer.state_dict().keys() == plain.state_dict().keys()
    layer.visible = torch.ones(2, 1, *shape[2:])
    torch.testing.assert_close(layer(x), plain(x), rtol=1e-5, atol=1e-6)


def test_an_activation_may_change_the_output_in_place(visible):
    layer = MaskedInstanceNorm3d(2, affine=True)
    layer.visible = visible
    nn.functional.leaky_relu(layer(draw(3, 2, 5, 4, 6).requires_grad_()), inplace=True).sum().backward()
    assert layer.weight.grad.any()
