import pytest
import torch
import torch.nn.functional as F

from scanlore.backbones.build import build_backbone
from scanlore.backbones.settings import ViTSettings
from scanlore.errors import DataError
from scanlore.registry import BACKBONES

LEAVES = [
    *("norm1.weight", "norm1.bias", "attn.qkv.weight", "attn.qkv.bias", "attn.proj.weight", "attn.proj.bias"),
    *("ls1.gamma", "norm2.weight", "norm2.bias"),
]
MLP = ["mlp.fc1.weight", "mlp.fc1.bias", "mlp.fc2.weight", "mlp.fc2.bias", "ls2.gamma"]
SWIGLU = ["mlp.w12.weight", "mlp.w12.bias", "mlp.w3.weight", "mlp.w3.bias", "ls2.gamma"]
ENDS = [
    *("cls_token", "pos_embed", "mask_token", "patch_embed.proj.weight", "patch_embed.proj.bias"),
    *("norm.weight", "norm.bias"),
]


def shapes_of(name, **settings):
    """Names and shapes of a network of full size, without its memory."""
    with torch.device("meta"):
        network = build_backbone(ViTSettings.model_validate({"name": name} | settings))
    return {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}


@pytest.mark.parametrize(("image_size", "positions"), [(112, 344), (96, 217)])
def test_vit_large_has_the_names_and_shapes_of_3dino(image_size, positions):
    shapes = shapes_of("vit-large", image_size=image_size)
    assert set(shapes) == {*ENDS, *(f"blocks.{i}.{leaf}" for i in range(24) for leaf in LEAVES + MLP)}
    assert len(shapes) == 343
    assert shapes["cls_token"] == (1, 1, 1024)
    assert shapes["mask_token"] == (1, 1024)
    assert shapes["pos_embed"] == (1, positions, 1024)
    assert shapes["patch_embed.proj.weight"] == (1024, 1, 16, 16, 16)
    assert shapes["blocks.23.attn.qkv.weight"] == (3072, 1024)
    assert shapes["blocks.23.mlp.fc1.weight"] == (4096, 1024)
    assert shapes["blocks.0.ls1.gamma"] == shapes["norm.bias"] == (1024,)


@pytest.mark.parametrize("num_registers", [0, 4])
@pytest.mark.parametrize("name", ["vit-small", "vit-base", "vit-large", "vit-giant"])
def test_2d_names_and_shapes_are_those_of_dinov2(name, num_registers):
    settings = {"ndim": 2, "patch_size": 14, "image_size": 518, "in_channels": 3, "num_registers": num_registers}
    shapes, entry = shapes_of(name, **settings), BACKBONES[name]
    leaves = LEAVES + (SWIGLU if name == "vit-giant" else MLP)
    registers = ["register_tokens"] if num_registers else []
    assert set(shapes) == {*ENDS, *registers, *(f"blocks.{i}.{leaf}" for i in range(entry.depth) for leaf in leaves)}
    assert shapes["pos_embed"] == (1, 1370, entry.embed_dim)
    assert shapes["patch_embed.proj.weight"] == (entry.embed_dim, 3, 14, 14)
    assert shapes.get("register_tokens") == ((1, 4, entry.embed_dim) if num_registers else None)


def test_swiglu_widths_are_dinov2s():
    shapes = shapes_of("vit-giant")
    assert shapes["blocks.0.mlp.w12.weight"] == (8192, 1536)
    assert shapes["blocks.0.mlp.w3.weight"] == (1536, 4096)


def randomised(timm_name):
    import timm

    reference = timm.create_model(timm_name, pretrained=False, img_size=70, num_classes=0).eval()
    generator = torch.Generator().manual_seed(0)
    for parameter in reference.parameters():
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)
    for block in reference.blocks:
        block.ls1.gamma.data += 0.5
        block.ls2.gamma.data += 0.5
    return reference


@pytest.mark.parametrize(("timm_name", "num_registers"), [("", 0), ("reg4_", 4)])
def test_features_equal_timms(timm_name, num_registers):
    reference = randomised(f"vit_small_patch14_{timm_name}dinov2")
    settings = {"name": "vit-small", "ndim": 2, "patch_size": 14, "image_size": 70, "in_channels": 3}
    network = build_backbone(ViTSettings.model_validate(settings | {"num_registers": num_registers}), 0).eval()
    weights = reference.state_dict() | {"mask_token": network.mask_token}
    if num_registers:  # [CLS] has no position there
        weights["register_tokens"] = weights.pop("reg_token")
        weights["pos_embed"] = torch.cat([torch.zeros(1, 1, 384), weights["pos_embed"]], 1)
    network.load_state_dict(weights)
    x = torch.randn(2, 3, 70, 70, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected, features = reference.forward_features(x), network.forward_features(x)
        middle = reference.forward_intermediates(x, indices=[4], norm=True, intermediates_only=True)[0]
        torch.testing.assert_close(features.embeddings[0], expected[:, 0], atol=1e-5, rtol=1e-5)
        patches = features.maps[0].flatten(2).mT
        torch.testing.assert_close(patches, expected[:, 1 + num_registers :], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(network.forward_features(x, [4]).maps[0], middle, atol=1e-5, rtol=1e-5)
    assert expected.std() > 0.1


@pytest.mark.parametrize("ndim", [2, 3])
def test_patches_are_the_convolutions(small, views_for, ndim):
    network = small(ndim=ndim, in_channels=2)
    x = views_for(network, *(8, 12, 4)[:ndim])
    projection = network.patch_embed.proj
    expected = projection(x).flatten(2).mT
    torch.testing.assert_close(network.patch_embed(x), expected)


def test_positions_are_added_to_cls_and_patches_but_not_to_registers(small, views_for):
    network = small(num_registers=2)
    x = views_for(network)
    tokens = network.embed(x)
    torch.testing.assert_close(tokens[:, :1], (network.cls_token + network.pos_embed[:, :1]).expand(2, -1, -1))
    torch.testing.assert_close(tokens[:, 1:3], network.register_tokens.expand(2, -1, -1))
    torch.testing.assert_close(tokens[:, 3:], network.patch_embed(x) + network.pos_embed[:, 1:])


def resized(network, grid, **options):
    stored = network.pos_embed[:, 1:].unflatten(1, (network.grid_edge,) * network.ndim).movedim(-1, 1)
    patches = F.interpolate(stored, **options).flatten(2).mT
    assert patches.shape[1] == torch.Size(grid).numel()
    return torch.cat([network.pos_embed[:, :1], patches], 1)


@pytest.mark.parametrize(
    ("settings", "grid", "options"),
    [
        ({"ndim": 3}, (3, 2, 6), {"size": (3, 2, 6), "mode": "trilinear"}),
        ({"ndim": 3, "pos_offset": 0.1}, (3, 2, 6), {"scale_factor": (3.1 / 4, 2.1 / 4, 6.1 / 4), "mode": "trilinear"}),
        ({"ndim": 2}, (3, 6), {"size": (3, 6), "mode": "bilinear"}),
        ({"ndim": 2, "pos_interpolation": "cubic"}, (3, 6), {"size": (3, 6), "mode": "bicubic"}),
        (
            {"ndim": 2, "pos_interpolation": "cubic", "pos_offset": 0.1},
            (3, 6),
            {"scale_factor": (3.1 / 4, 6.1 / 4), "mode": "bicubic"},
        ),
        (
            {"ndim": 2, "pos_interpolation": "cubic", "pos_antialias": True},
            (3, 2),
            {"size": (3, 2), "mode": "bicubic", "antialias": True},
        ),
    ],
)
def test_position_embedding_is_resized(small, views_for, settings, grid, options):
    network = small(image_size=16, **settings)
    x = views_for(network, *(4 * edge for edge in grid))
    expected = network.patch_embed(x) + resized(network, grid, **options)[:, 1:]
    torch.testing.assert_close(network.embed(x)[:, 1:], expected)


def test_offset_makes_a_difference(small, views_for):
    plain, offset = small(image_size=24), small(image_size=24, pos_offset=0.1)
    x = views_for(plain, 12, 12, 12)
    assert (plain.embed(x) - offset.embed(x)).abs().max() > 1e-3


def test_own_grid_is_left_as_it_is_whatever_the_offset(small, views_for):
    network = small(pos_offset=0.1)
    x = views_for(network)
    torch.testing.assert_close(network.embed(x)[:, 1:], network.patch_embed(x) + network.pos_embed[:, 1:])


def test_stochastic_depth_leaves_evaluation_alone(small, views_for):
    network, plain = small(drop_path=0.5), small()
    x = views_for(network, batch=4)
    assert torch.equal(network.tokens([x])[0].cls, plain.tokens([x])[0].cls)
    torch.manual_seed(0)
    assert not torch.allclose(network.train().tokens([x])[0].cls, plain.tokens([x])[0].cls)


def test_without_stochastic_depth_training_equals_evaluation(small, views_for):
    network = small()
    x = views_for(network)
    evaluated = network.tokens([x])[0].cls
    assert torch.equal(network.train().tokens([x])[0].cls, evaluated)


def test_seed_decides_the_weights_and_leaves_torchs_state_alone(small):
    state = torch.get_rng_state()
    first, again, other = small(seed=3), small(seed=3), small(seed=4)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first.blocks[0].attn.qkv.weight, again.blocks[0].attn.qkv.weight)
    assert not torch.equal(first.blocks[0].attn.qkv.weight, other.blocks[0].attn.qkv.weight)


def test_initial_weights():
    network = build_backbone(ViTSettings(name="vit-tiny", patch_size=4, image_size=16, num_registers=1), 0)
    weight = network.blocks[5].attn.qkv.weight.detach()
    assert float(weight.std()) == pytest.approx(0.02, rel=0.03)
    assert weight.abs().max() < 2.0
    assert float(network.pos_embed.detach().std()) == pytest.approx(0.02, rel=0.05)
    assert not network.blocks[5].mlp.fc1.bias.any()
    assert not network.mask_token.any()
    assert 0 < network.cls_token.std() < 1e-5
    assert 0 < network.register_tokens.std() < 1e-5
    assert torch.all(network.blocks[0].ls1.gamma == torch.tensor(1e-5))


def test_no_layer_scale():
    names = shapes_of("vit-tiny", layer_scale=0)
    assert not [name for name in names if "ls1" in name or "ls2" in name]


@pytest.mark.parametrize("shape", [(1, 1, 8, 8), (1, 2, 8, 8, 8), (1, 1, 8, 8, 9), (1, 1, 8, 8, 8, 8)])
def test_views_that_do_not_fit_are_one_line(small, shape):
    with pytest.raises(DataError, match="views of") as error:
        small().forward_features(torch.zeros(shape))
    assert "\n" not in str(error.value)


def rotary(small, ndim=3, **settings):
    network = small(ndim=ndim, positions="rope", image_size=16, **settings)
    for block in network.blocks:  # strong enough to see where a patch is
        torch.nn.init.normal_(block.attn.qkv.weight, std=0.5)
    return network


@pytest.mark.parametrize("ndim", [2, 3])
def test_rotary_positions_need_no_parameter_and_tell_where_a_patch_is(small, views_for, ndim):
    network = rotary(small, ndim)
    assert "pos_embed" not in network.state_dict()
    x = views_for(network)
    turned = network.tokens([x.flip(-1)])[0].cls
    assert (turned - network.tokens([x])[0].cls).abs().max() > 1e-3
    assert network.forward_features(views_for(network, *(4, 8, 12)[:ndim])).maps[0].shape[2:] == (1, 2, 3)[:ndim]


def test_rotary_views_are_rescaled_in_training_only_and_reproducibly(small, views_for):
    network = rotary(small, rope_rescale=2.0)
    x = views_for(network)
    still = network.tokens([x])[0].cls
    assert torch.equal(network.tokens([x])[0].cls, still)
    drawn = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        drawn.append(network.train().tokens([x])[0].cls)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.allclose(drawn[0], drawn[2])
    assert not torch.allclose(drawn[0], still)


@pytest.mark.parametrize("settings", [{}, {"positions": "rope", "rope_rescale": 2.0}])
@pytest.mark.parametrize("ndim", [2, 3])
def test_registers_work_with_masks_kept_patches_and_stochastic_depth(small, views_for, ndim, settings):
    network = small(ndim=ndim, num_registers=3, drop_path=0.5, **settings).train()
    x, keep = views_for(network, batch=4), torch.tensor([[0, 2], [1, 3], [0, 1], [3, 2]])
    masks = torch.zeros(4, 2**ndim, dtype=torch.bool)
    masks[:, 1] = True
    tokens = network.tokens([x, x, x[:, :, :4]], masks=[masks, None, None], keep=[None, keep, None])
    assert [part.patches.shape[1] for part in tokens] == [2**ndim, 2, 2 ** (ndim - 1)]
    sum(part.cls.square().sum() for part in tokens).backward()
    assert network.register_tokens.grad.any(-1).all()


def test_blocks_with_rotary_positions_compile_whole(small, views_for):
    network = rotary(small, num_registers=1)
    x = views_for(network)
    expected = network.forward_features(x).embeddings[0]
    for block in network.blocks:
        block.compile(backend="eager", fullgraph=True)
    torch.testing.assert_close(network.forward_features(x).embeddings[0], expected)


def test_stochastic_depth_is_uniform_or_rises_to_the_last_block():
    def rates(**options):
        settings = ViTSettings(name="vit-tiny", patch_size=8, image_size=16, drop_path=0.22, **options)
        return [block.drop_path for block in build_backbone(settings, 0).blocks]

    assert set(rates()) == {0.22}
    rising = rates(drop_path_uniform=False)
    assert rising == pytest.approx([0.22 * index / (len(rising) - 1) for index in range(len(rising))])
