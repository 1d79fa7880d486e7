"""What every registered backbone promises, in 2D and 3D."""

import pytest
import torch

from scanlore.backbones.features import Backbone
from scanlore.errors import DataError


def test_it_is_a_backbone(network):
    assert isinstance(network, Backbone)
    assert len(network.map_dims) == len(network.map_strides)
    assert network.map_dims[-1] == network.embed_dim
    assert network.map_strides[-1] == network.patch_size


def test_features_of_the_default_layers(network, views_for):
    size = (8, 12, 4)[: network.ndim]
    features = network.forward_features(views_for(network, *size))
    assert [tuple(part.shape) for part in features.embeddings] == [(2, dim) for dim in network.map_dims]
    expected = zip(network.map_dims, network.map_strides, strict=True)
    assert [tuple(part.shape) for part in features.maps] == [
        (2, dim, *(edge // stride for edge in size)) for dim, stride in expected
    ]
    torch.testing.assert_close(features.pooled, features.maps[-1].flatten(2).mean(-1))


@pytest.mark.parametrize("asked", [[0, 2], 2, [1]])
def test_features_of_asked_layers(network, views_for, asked):
    x = views_for(network)
    every, features = network.forward_features(x, network.num_layers), network.forward_features(x, asked)
    wanted = asked if isinstance(asked, list) else [network.num_layers - asked + i for i in range(asked)]
    assert len(features.maps) == len(features.embeddings) == len(wanted)
    for place, layer in enumerate(wanted):
        torch.testing.assert_close(features.embeddings[place], every.embeddings[layer])
        torch.testing.assert_close(features.maps[place], every.maps[layer])


@pytest.mark.parametrize("asked", [0, 4, -1, [], [3], [-1]])
def test_layers_that_do_not_exist_are_refused(network, views_for, asked):
    with pytest.raises(DataError, match="of a network that has 3"):
        network.forward_features(views_for(network), asked)


def test_smallest_view(network, views_for):
    edge = (network.min_size,) * network.ndim
    assert network.train().forward_features(views_for(network, *edge)).embeddings[0].isfinite().all()


def test_gradient_on_every_trained_parameter(network, views_for):
    torch.manual_seed(0)
    for weight in network.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    if hasattr(network, "tokens"):
        masks = torch.zeros(2, 2**network.ndim, dtype=torch.bool)
        masks[:, 0] = True
        groups = [views_for(network), views_for(network, *(4,) * network.ndim)]
        tokens = network.train().tokens(groups, masks=[masks, None])
        loss = sum(group.cls.square().sum() + (group.patches**3).sum() for group in tokens)
    else:
        loss = network.train()(views_for(network)).square().sum()
    loss.backward()
    trained = {name: weight.grad for name, weight in network.named_parameters() if weight.requires_grad}
    assert [name for name, gradient in trained.items() if gradient is None or not gradient.any()] == []


def test_weights_rebuild_the_features(network, small, views_for):
    x = views_for(network)
    other = small(network.settings.name, network.ndim, seed=1)
    assert not torch.equal(other.forward_features(x).embeddings[0], network.forward_features(x).embeddings[0])
    other.load_state_dict(network.state_dict())
    assert torch.equal(other.forward_features(x).embeddings[0], network.forward_features(x).embeddings[0])
    assert torch.equal(other.forward_features(x).maps[0], network.forward_features(x).maps[0])


def test_tokens_are_the_features(vit, views_for):
    x = views_for(vit)
    tokens, features = vit.tokens([x])[0], vit.forward_features(x)
    torch.testing.assert_close(tokens.cls, features.embeddings[0])
    torch.testing.assert_close(tokens.patches.mT, features.maps[0].flatten(2))


def test_packed_groups_equal_separate_passes(vit, views_for):
    sizes = ((8, 8, 8), (4, 8, 12), (4, 4, 4))
    groups = [views_for(vit, *size[: vit.ndim], batch=b) for size, b in zip(sizes, (2, 1, 5), strict=True)]
    for group, tokens in zip(groups, vit.tokens(groups), strict=True):
        alone = vit.tokens([group])[0]
        torch.testing.assert_close(tokens.cls, alone.cls)
        torch.testing.assert_close(tokens.patches, alone.patches)


def test_views_do_not_see_each_other(vit, views_for):
    x = views_for(vit, batch=3)
    together, alone = vit.tokens([x])[0], vit.tokens([x[1:2]])[0]
    torch.testing.assert_close(together.patches[1:2], alone.patches)


def test_masked_patches_hide_their_pixels(vit, views_for):
    masks = torch.ones(2, 2**vit.ndim, dtype=torch.bool)
    first, second = (vit.tokens([views_for(vit, seed=seed)], masks=[masks])[0] for seed in (0, 1))
    torch.testing.assert_close(first.patches, second.patches)
    masks[0, 0] = False
    first, second = (vit.tokens([views_for(vit, seed=seed)], masks=[masks])[0] for seed in (0, 1))
    assert not torch.allclose(first.patches[0], second.patches[0])
    torch.testing.assert_close(first.patches[1], second.patches[1])


def test_mask_token_takes_a_patchs_place_and_keeps_its_position(vit, views_for):
    torch.nn.init.normal_(vit.mask_token)
    x, mask = views_for(vit), torch.zeros(2, 2**vit.ndim, dtype=torch.bool)
    mask[1, 2] = True
    plain, masked = vit.embed(x), vit.embed(x, mask)
    place = vit.num_prefix + 2
    position = vit.pos_embed[0, 3] if vit.has_learned_positions else 0
    torch.testing.assert_close(masked[1, place], vit.mask_token[0] + position)
    masked[1, place] = plain[1, place]
    assert torch.equal(masked, plain)


def test_kept_patches_are_computed_alone(vit, views_for):
    x, keep = views_for(vit), torch.tensor([[3, 0], [1, 2]])
    tokens = vit.tokens([x, x], keep=[keep, None])
    assert tokens[0].patches.shape == (2, 2, vit.embed_dim)
    for row in range(2):
        gathered = vit.embed(x)[row : row + 1, [*range(vit.num_prefix), *(keep[row] + vit.num_prefix)]]
        torch.testing.assert_close(vit.embed(x, keep=keep)[row : row + 1], gathered)
    assert not torch.allclose(tokens[0].cls, tokens[1].cls)


def test_kept_patches_equal_the_full_pass_where_nothing_attends(vit, views_for):
    for block in vit.blocks:
        torch.nn.init.zeros_(block.attn.proj.weight)
    x, keep = views_for(vit), torch.tensor([[3, 0], [1, 2]])
    kept, full = vit.tokens([x], keep=[keep])[0], vit.tokens([x])[0]
    torch.testing.assert_close(kept.cls, full.cls)
    torch.testing.assert_close(kept.patches, torch.stack([full.patches[row, keep[row]] for row in range(2)]))


def test_steps_lead_to_the_features(vit, views_for):
    x = views_for(vit)
    steps = list(vit.steps(x, vit.num_layers - 1))
    assert len(steps) == vit.num_layers
    torch.testing.assert_close(vit.norm(steps[-1])[:, 0], vit.forward_features(x).embeddings[0])
    assert len(list(vit.steps(x, 1))) == 2


@pytest.mark.parametrize("layer", [0, 2, -1])
def test_attention_weights_are_those_of_the_forward_pass(vit, views_for, layer):
    x = views_for(vit)
    weights, count = vit.attention(x, layer), vit.num_prefix + 2**vit.ndim
    assert weights.shape == (2, 3, count, count)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3, count))
    index = range(3)[layer]
    before = vit.embed(x) if index == 0 else list(vit.steps(x, index - 1))[-1]
    block = vit.blocks[index]
    value = block.attn.qkv(block.norm1(before)).unflatten(-1, (3, 3, 8))[:, :, 2].transpose(1, 2)
    attended = before + block.ls1(block.attn.proj((weights @ value).transpose(1, 2).flatten(2)))
    after = attended + block.ls2(block.mlp(block.norm2(attended)))
    torch.testing.assert_close(list(vit.steps(x, index))[-1], after)


def test_half_precision_pass(vit, views_for):
    masks = torch.rand(2, 2**vit.ndim) < 0.5
    with torch.autocast("cpu", torch.bfloat16):
        tokens = vit.train().tokens([views_for(vit)], masks=[masks])[0]
    assert tokens.patches.isfinite().all()


def test_layer_ids_rise_with_depth(vit):
    ids = {name: vit.layer_id(name) for name in vit.state_dict()}
    assert {ids.get(name, 0) for name in ("cls_token", "pos_embed", "mask_token", "patch_embed.proj.bias")} == {0}
    assert ids["register_tokens"] == 0
    assert [ids[f"blocks.{i}.attn.qkv.weight"] for i in range(3)] == [1, 2, 3]
    assert ids["norm.weight"] == 4


def test_a_cnns_maps_are_its_features(cnn, views_for):
    x = views_for(cnn)
    features = cnn.forward_features(x)
    assert all(map(torch.equal, cnn.maps(x), features.maps))
    torch.testing.assert_close(features.embeddings[1], features.maps[1].flatten(2).mean(-1))


def test_a_cnns_decoder_gives_the_view_back_its_size(cnn, views_for):
    x = views_for(cnn, *(8, 16, 12)[: cnn.ndim])
    assert cnn(x).shape == (2, 1, *x.shape[2:])
    assert torch.equal(cnn.decode(cnn.maps(x)), cnn(x))


def test_a_cnn_takes_hidden_blocks(cnn, views_for):
    visible = torch.zeros(2, 1, *(2,) * cnn.ndim, dtype=torch.bool)
    visible[..., 0] = True
    maps = cnn.train().maps(views_for(cnn), visible)
    cnn.decode(maps).square().sum().backward()
    assert all(m[..., : m.shape[-1] // 2].any() and not m[..., m.shape[-1] // 2 :].any() for m in maps[:-1])
