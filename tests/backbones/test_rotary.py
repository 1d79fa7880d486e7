import math

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

from scanlore.backbones.rotary import Rotation, angles, rescale, rotation
from scanlore.backbones.vit_layers import Block, pack

CPU = torch.device("cpu")


def test_angles_by_hand():
    found = angles((2, 3), 8, base=100.0, device=CPU)
    rows, columns = (-0.5, 0.5), (-2 / 3, 0.0, 2 / 3)
    rates = (2 * math.pi, 2 * math.pi / 10)
    expected = [[y * rates[0], y * rates[1], x * rates[0], x * rates[1]] for y in rows for x in columns]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_three_axes_share_a_head_and_the_rest_stays():
    found = angles((2, 2, 2), 64, base=100.0, device=CPU)
    assert found.shape == (8, 32)
    assert found[:, :30].all()
    assert not found[:, 30:].any()
    for axis, stride in enumerate((4, 2, 1)):
        part = found[:, 10 * axis : 10 * axis + 10]
        torch.testing.assert_close(part[0], -part[stride])


def test_rotation_equals_timms():
    from timm.layers import RotaryEmbeddingDinoV3, apply_rot_embed_cat

    theirs = RotaryEmbeddingDinoV3(dim=64, temperature=100.0, rotate_half=True).get_embed((3, 5))
    x = torch.randn(2, 3, 15, 64)
    ours = rotation(angles((3, 5), 64, 100.0, CPU), num_prefix=0)(x)
    torch.testing.assert_close(ours, apply_rot_embed_cat(x, theirs, half=True), atol=1e-5, rtol=1e-5)


def scores(x, turn):
    turned = turn(x)
    return turned @ turned.mT


def test_products_depend_on_the_distance_alone():
    x = torch.randn(1, 1, 1, 12).expand(1, 1, 6, 12)
    found = scores(x, rotation(angles((6,), 12, 100.0, CPU), num_prefix=0))[0, 0]
    for distance in range(1, 6):
        along = found.diagonal(distance)
        torch.testing.assert_close(along, along[:1].expand_as(along))
    assert found[0].unique().numel() == 6


def test_lengths_stay_and_the_prefix_does_not_turn():
    x = torch.randn(2, 3, 9, 12)
    turned = rotation(angles((2, 3), 12, 100.0, CPU), num_prefix=3)(x)
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))
    assert torch.equal(turned[:, :, :3], x[:, :, :3])
    assert (turned[:, :, 3:] != x[:, :, 3:]).any(-1).all()


def test_kept_patches_turn_as_in_the_full_view():
    table, keep = angles((2, 3), 12, 100.0, CPU), torch.tensor([[4, 0], [1, 5]])
    x = torch.randn(2, 3, 7, 12)
    full = rotation(table, num_prefix=1)(x)
    for row in range(2):
        places = [0, *(keep[row] + 1)]
        kept = rotation(table, 1, keep).of_views(torch.tensor([row]))(x[row : row + 1, :, places])
        torch.testing.assert_close(kept, full[row : row + 1, :, places])


def test_computed_in_float32_and_given_back_as_it_came():
    x, turn = torch.randn(1, 1, 6, 12), rotation(angles((2, 3), 12, 100.0, CPU), num_prefix=0)
    half = x.bfloat16()
    assert torch.equal(turn(half), turn(half.float()).bfloat16())


def test_rescaling_is_log_uniform():
    torch.manual_seed(0)
    drawn = torch.stack([rescale(2.0, CPU) for _ in range(2000)]).log2()
    assert drawn.abs().max() <= 1
    assert float(drawn.mean()) == pytest.approx(0, abs=0.05)
    assert float(drawn.std()) == pytest.approx(1 / math.sqrt(3), abs=0.03)


def test_dropped_views_take_their_rotations_along():
    block = Block(12, 3, "mlp", layer_scale=1.0, drop_path=0.5).train()
    torch.nn.init.zeros_(block.ls2.gamma)
    x = torch.randn(4, 3, 12)
    keep = torch.tensor([[0, 1], [5, 2], [3, 4], [2, 0]])
    turn = rotation(angles((2, 3), 4, 100.0, CPU), 1, keep)
    tokens, packing = pack([x, x[:2]], (turn, Rotation(turn.cos[:1], turn.sin[:1])))
    whole = [part.detach() for part in packing.split(block.eval()(tokens, packing) - tokens)]
    found = packing.split(block.train()(tokens, packing).detach() - tokens)
    for part, full, count in zip(found, whole, (2, 1), strict=True):
        kept = part.flatten(1).abs().sum(1) > 0
        assert int(kept.sum()) == count
        torch.testing.assert_close(part[kept], full[kept] * len(part) / count, atol=1e-5, rtol=1e-4)


@pytest.fixture
def one_process():
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield dist.device_mesh.init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


def test_sharded_blocks_turn_in_float32_whatever_their_precision(one_process, monkeypatch):
    seen, call = [], Rotation.__call__
    monkeypatch.setattr(Rotation, "__call__", lambda self, x: seen.append((self.cos.dtype, x.dtype)) or call(self, x))
    block = Block(12, 3, "mlp", layer_scale=1.0, drop_path=0.0)
    tokens, packing = pack([torch.randn(2, 7, 12)], (rotation(angles((2, 3), 4, 100.0, CPU), 1),))
    fully_shard(block, mesh=one_process, mp_policy=MixedPrecisionPolicy(param_dtype=torch.bfloat16))
    block(tokens, packing).float().sum().backward()
    assert set(seen) == {(torch.float32, torch.bfloat16)}
