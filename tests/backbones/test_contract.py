"""What every registered backbone promises, in 2D and 3D."""

import pytest
import torch

from scanlore.backbones.features import Backbone
from scanlore.errors import DataError


def test_it_is_a_backbone(network):
    assert isinstance(network, Backbone)
    assert len(network.map_dims) == len(network.map_strides) == 1


def test_features_of_the_last_layer(network, views_for):
    size = (8, 12, 4)[: network.ndim]
    features = network.forward_features(views_for(network, *size))
    stride = network.map_strides[0]
    assert [tuple(part.shape) for part in features.embeddings] == [(2, network.embed_dim)]
    assert [tuple(part.shape) for part in features.maps] == [(2, network.map_dims[0], *(e // stride for e in size))]
    torch.testing.assert_close(features.pooled, features.maps[0].flatten(2).mean(-1))


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


def test_gradient_on_every_parameter(network, views_for):
    masks = torch.zeros(2, 2**network.ndim, dtype=torch.bool)
    masks[:, 0] = True
    groups = [views_for(network), views_for(network, *(4,) * network.ndim)]
    tokens = network.train().tokens(groups, masks=[masks, None])
    sum(group.cls.square().sum() + (group.patches**3).sum() for group in tokens).backward()
    assert [name for name, weight in network.named_parameters() if weight.grad is None or not weight.grad.any()] == []


def test_weights_rebuild_the_features(network, small, views_for):
    x = views_for(network)
    other = small(network.settings.name, network.ndim, seed=1, num_registers=2)
    assert not torch.equal(other.forward_features(x).embeddings[0], network.forward_features(x).embeddings[0])
    other.load_state_dict(network.state_dict())
    assert torch.equal(other.forward_features(x).embeddings[0], network.forward_features(x).embeddings[0])
    assert torch.equal(other.forward_features(x).maps[0], network.forward_features(x).maps[0])


def test_tokens_are_the_features(network, views_for):
    x = views_for(network)
    tokens, features = network.tokens([x])[0], network.forward_features(x)
    torch.testing.assert_close(tokens.cls, features.embeddings[0])
    torch.testing.assert_close(tokens.patches.mT, features.maps[0].flatten(2))


def test_packed_groups_equal_separate_passes(network, views_for):
    sizes = ((8, 8, 8), (4, 8, 12), (4, 4, 4))
    groups = [views_for(network, *size[: network.ndim], batch=b) for size, b in zip(sizes, (2, 1, 5), strict=True)]
    for group, tokens in zip(groups, network.tokens(groups), strict=True):
        alone = network.tokens([group])[0]
        torch.testing.assert_close(tokens.cls, alone.cls)
        torch.testing.assert_close(tokens.patches, alone.patches)


def test_views_do_not_see_each_other(network, views_for):
    x = views_for(network, batch=3)
    together, alone = network.tokens([x])[0], network.tokens([x[1:2]])[0]
    torch.testing.assert_close(together.patches[1:2], alone.patches)


def test_masked_patches_hide_their_pixels(network, views_for):
    masks = torch.ones(2, 2**network.ndim, dtype=torch.bool)
    first, second = (network.tokens([views_for(network, seed=seed)], masks=[masks])[0] for seed in (0, 1))
    torch.testing.assert_close(first.patches, second.patches)
    masks[0, 0] = False
    first, second = (network.tokens([views_for(network, seed=seed)], masks=[masks])[0] for seed in (0, 1))
    assert not torch.allclose(first.patches[0], second.patches[0])
    torch.testing.assert_close(first.patches[1], second.patches[1])


def test_mask_token_takes_a_patchs_place_and_keeps_its_position(network, views_for):
    torch.nn.init.normal_(network.mask_token)
    x, mask = views_for(network), torch.zeros(2, 2**network.ndim, dtype=torch.bool)
    mask[1, 2] = True
    plain, masked = network.embed(x), network.embed(x, mask)
    place = network.num_prefix + 2
    torch.testing.assert_close(masked[1, place], network.mask_token[0] + network.pos_embed[0, 3])
    masked[1, place] = plain[1, place]
    assert torch.equal(masked, plain)


def test_kept_patches_are_computed_alone(network, views_for):
    x, keep = views_for(network), torch.tensor([[3, 0], [1, 2]])
    tokens = network.tokens([x, x], keep=[keep, None])
    assert tokens[0].patches.shape == (2, 2, network.embed_dim)
    for row in range(2):
        gathered = network.embed(x)[row : row + 1, [*range(network.num_prefix), *(keep[row] + network.num_prefix)]]
        torch.testing.assert_close(network.embed(x, keep=keep)[row : row + 1], gathered)
    assert not torch.allclose(tokens[0].cls, tokens[1].cls)


def test_kept_patches_equal_the_full_pass_where_nothing_attends(network, views_for):
    for block in network.blocks:
        torch.nn.init.zeros_(block.attn.proj.weight)
    x, keep = views_for(network), torch.tensor([[3, 0], [1, 2]])
    kept, full = network.tokens([x], keep=[keep])[0], network.tokens([x])[0]
    torch.testing.assert_close(kept.cls, full.cls)
    torch.testing.assert_close(kept.patches, torch.stack([full.patches[row, keep[row]] for row in range(2)]))


def test_steps_lead_to_the_features(network, views_for):
    x = views_for(network)
    steps = list(network.steps(x, network.num_layers - 1))
    assert len(steps) == network.num_layers
    torch.testing.assert_close(network.norm(steps[-1])[:, 0], network.forward_features(x).embeddings[0])
    assert len(list(network.steps(x, 1))) == 2


@pytest.mark.parametrize("layer", [0, 2, -1])
def test_attention_weights_are_those_of_the_forward_pass(network, views_for, layer):
    x = views_for(network)
    weights, count = network.attention(x, layer), network.num_prefix + 2**network.ndim
    assert weights.shape == (2, 3, count, count)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3, count))
    index = range(3)[layer]
    before = network.embed(x) if index == 0 else list(network.steps(x, index - 1))[-1]
    block = network.blocks[index]
    value = block.attn.qkv(block.norm1(before)).unflatten(-1, (3, 3, 8))[:, :, 2].transpose(1, 2)
    attended = before + block.ls1(block.attn.proj((weights @ value).transpose(1, 2).flatten(2)))
    after = attended + block.ls2(block.mlp(block.norm2(attended)))
    torch.testing.assert_close(list(network.steps(x, index))[-1], after)


def test_half_precision_pass(network, views_for):
    masks = torch.rand(2, 2**network.ndim) < 0.5
    with torch.autocast("cpu", torch.bfloat16):
        tokens = network.train().tokens([views_for(network)], masks=[masks])[0]
    assert tokens.patches.isfinite().all()


def test_layer_ids_rise_with_depth(network):
    ids = {name: network.layer_id(name) for name in network.state_dict()}
    assert {ids[name] for name in ("cls_token", "pos_embed", "mask_token", "patch_embed.proj.bias")} == {0}
    assert ids["register_tokens"] == 0
    assert [ids[f"blocks.{i}.attn.qkv.weight"] for i in range(3)] == [1, 2, 3]
    assert ids["norm.weight"] == 4
