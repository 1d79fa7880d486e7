import pytest
import torch
import torch.nn.functional as F
from torch import nn

from scanlore.backbones.build import build_backbone
from scanlore.backbones.positions import resize_grid
from scanlore.backbones.settings import ViTSettings
from scanlore.errors import ModelError
from scanlore.modelfolder.fit import BIAS, KERNEL, POSITIONS, fold_grey, inflate, resize_positions

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def vit(ndim=2, patch=4, image=16, **options):
    return ViTSettings(name="vit-tiny", ndim=ndim, patch_size=patch, image_size=image, **options)


def state_of(settings, dim=5, seed=0):
    """The tensors that can be adapted, and one that is not."""
    generator, edge = torch.Generator().manual_seed(seed), settings.image_size // settings.patch_size
    kernel = (dim, settings.in_channels, *(settings.patch_size,) * settings.ndim)
    shapes = {KERNEL: kernel, BIAS: (dim,), POSITIONS: (1, 1 + edge**settings.ndim, dim), "norm.weight": (dim,)}
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def embedded(state, x):
    """Patch embeddings on their grid."""
    conv = F.conv2d if x.ndim == 4 else F.conv3d
    return conv(x, state[KERNEL], state[BIAS], stride=state[KERNEL].shape[-1])


@pytest.mark.parametrize(
    ("source", "target", "grids"),
    [
        (vit(image=16), vit(image=24), "4x4 to 6x6"),
        (vit(image=24), vit(patch=8, image=16, pos_interpolation="cubic", pos_antialias=True), "6x6 to 2x2"),
        (vit(3, image=12), vit(3, image=16, pos_offset=0.1), "3x3x3 to 4x4x4"),
    ],
)
def test_positions_are_resized_as_the_target_says(source, target, grids):
    state = state_of(source)
    found, adapted = resize_positions(state, source, target)
    stored, wanted = ((s.image_size // s.patch_size,) * s.ndim for s in (source, target))
    assert torch.equal(found[POSITIONS], resize_grid(state[POSITIONS], stored, wanted, target))
    assert found[POSITIONS].shape[1] == 1 + torch.Size(wanted).numel()
    assert adapted == [(POSITIONS, f"resized from {grids} patches")]
    assert found["norm.weight"] is state["norm.weight"]


def test_the_networks_own_resizing_is_the_same():
    source, target = vit(image=16, pos_offset=0.1), vit(image=24, pos_offset=0.1)
    first, second = build_backbone(source, 0), build_backbone(target, 1)
    second.load_state_dict(resize_positions(first.state_dict(), source, target)[0])
    x = torch.randn(1, 1, 24, 24)
    torch.testing.assert_close(second.embed(x), first.embed(x))


@pytest.mark.parametrize("options", [{}, {"positions": "rope"}])
def test_nothing_is_adapted_where_nothing_differs(options):
    state = state_of(vit())
    found, adapted = resize_positions(state, vit(**options), vit(image=16 if not options else 32, **options))
    assert adapted == []
    assert found == state


@pytest.mark.parametrize(
    ("source", "target", "says"),
    [
        (vit(2), vit(3), "weights for 2D views do not fit a 3D network"),
        (vit(3), vit(2), "weights for 3D views do not fit a 2D network"),
        (vit(), vit(positions="rope"), "learned positions do not fit a network with rope positions"),
    ],
)
def test_positions_that_cannot_be_resized_are_one_line(source, target, says):
    with pytest.raises(ModelError, match=says):
        resize_positions(state_of(source), source, target)


@pytest.mark.parametrize("low_high", [(-1.0, 1.0), (0.0, 1.0), (0.0, 255.0)])
@pytest.mark.parametrize("ndim", [2, 3])
def test_folded_colours_are_exact_for_grey_images(ndim, low_high):
    state, (low, high) = state_of(vit(ndim, in_channels=3)), low_high
    folded, adapted = fold_grey(state, MEAN, STD, low_high)
    grey = torch.rand(2, 1, *(8,) * ndim)
    shape = (1, 3, *(1,) * ndim)
    normalised = (grey - torch.tensor(MEAN).view(shape)) / torch.tensor(STD).view(shape)
    found = embedded(folded, low + (high - low) * grey)
    torch.testing.assert_close(found, embedded(state, normalised), atol=1e-3, rtol=1e-5)
    assert folded[KERNEL].shape[1] == 1
    assert [name for name, _ in adapted] == [KERNEL, BIAS]
    assert all("3 colours folded into grey" in how for _, how in adapted)


def test_grey_is_not_folded_again():
    with pytest.raises(ModelError, match="weights for 1 channels have no 3 colours"):
        fold_grey(state_of(vit()), MEAN, STD, (0, 1))


@pytest.mark.parametrize("how", ["average", "centre"])
def test_a_volume_of_equal_slices_is_embedded_as_its_slice(how):
    source, target = vit(image=16), vit(3, image=16)
    state = state_of(source)
    inflated, adapted = inflate(state, source, target, how)
    x = torch.randn(2, 1, 16, 16)
    found = embedded(inflated, x[..., None].expand(-1, -1, -1, -1, 8))
    torch.testing.assert_close(found, embedded(state, x)[..., None].expand(-1, -1, -1, -1, 2), atol=1e-5, rtol=1e-5)
    assert [name for name, _ in adapted] == [KERNEL, POSITIONS]
    assert "4x4 to 4x4x4" in adapted[0][1]


def test_average_and_centre_weigh_the_depth_differently():
    source, target = vit(), vit(3)
    state = state_of(source)
    average, centre = (inflate(state, source, target, how)[0][KERNEL] for how in ("average", "centre"))
    for depth in range(4):
        torch.testing.assert_close(average[..., depth], state[KERNEL] / 4)
        assert torch.equal(centre[..., depth], state[KERNEL] if depth == 2 else torch.zeros_like(state[KERNEL]))


def test_a_larger_patch_responds_to_the_resized_image_as_before():
    source, target = vit(patch=14, image=28), vit(3, patch=16, image=32)
    state = state_of(source)
    inflated, _ = inflate(state, source, target, "average")
    patch = torch.randn(2, 1, 14, 14)
    resized = F.interpolate(patch, size=(16, 16), mode="bicubic", antialias=True)
    found = embedded(inflated, resized[..., None].expand(-1, -1, -1, -1, 16))
    torch.testing.assert_close(found[..., 0], embedded(state, patch), atol=1e-4, rtol=1e-4)


def test_positions_are_repeated_over_the_depth():
    source, target = vit(image=24, pos_interpolation="cubic", pos_offset=0.1), vit(3, image=16)
    state = state_of(source)
    found = inflate(state, source, target, "average")[0][POSITIONS]
    plane = resize_grid(state[POSITIONS], (6, 6), (4, 4), source)
    cells = found[:, 1:].unflatten(1, (4, 4, 4))
    assert torch.equal(found[:, :1], state[POSITIONS][:, :1])
    for depth in range(4):
        assert torch.equal(cells[:, :, :, depth], plane[:, 1:].unflatten(1, (4, 4)))


def test_inflated_weights_fill_a_network_for_volumes():
    source, target = vit(image=24, num_registers=2), vit(3, image=8)
    network: nn.Module = build_backbone(vit(3, image=8, num_registers=2), 1)
    network.load_state_dict(inflate(build_backbone(source, 0).state_dict(), source, target, "average")[0])
    assert network.forward_features(torch.randn(1, 1, 8, 8, 8)).embeddings[0].isfinite().all()


@pytest.mark.parametrize(
    ("source", "target"), [(vit(3), vit(3)), (vit(2), vit(2)), (vit(positions="rope"), vit(3, positions="rope"))]
)
def test_only_networks_for_images_are_inflated(source, target):
    with pytest.raises(ModelError, match="only a 2D network with learned positions can be inflated"):
        inflate(state_of(source), source, target, "average")


def test_precision_is_kept():
    source, target = vit(in_channels=3), vit(3, in_channels=3)
    state = {name: tensor.half() for name, tensor in state_of(source).items()}
    changed = [fold_grey(state, MEAN, STD, (-1, 1))[0], inflate(state, source, target, "average")[0]]
    assert {tensor.dtype for found in changed for tensor in found.values()} == {torch.float16}
