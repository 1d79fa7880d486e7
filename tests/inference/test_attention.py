import pytest
import torch

from scanlore.backbones.build import build_backbone
from scanlore.backbones.settings import backbone_settings
from scanlore.inference.attention import cls_attention, has_attention


def network(ndim=3, **options):
    settings = {"name": "vit-tiny", "ndim": ndim, "patch_size": 4, "image_size": 8} | options
    return build_backbone(backbone_settings(settings, "test"), 0).eval()


def by_hand(backbone, views, index):
    """Softmax of [CLS]'s query with all keys of block `index`, from what its projection gives out."""
    seen = {}
    hook = backbone.blocks[index].attn.qkv.register_forward_hook(lambda _, __, out: seen.update(qkv=out))
    backbone.forward_features(views)
    hook.remove()
    qkv = seen["qkv"].reshape(len(views), -1, 3, 3, 64)
    scores = torch.einsum("bhd,bnhd->bhn", qkv[:, 0, 0], qkv[:, :, 1]) / 8
    return scores.softmax(-1)


@pytest.mark.parametrize(("ndim", "num_registers"), [(2, 0), (2, 2), (3, 0), (3, 4)])
def test_it_is_the_softmax_of_the_last_block(ndim, num_registers):
    backbone, views = network(ndim, num_registers=num_registers), torch.randn(2, 1, *(8, 12, 4)[:ndim])
    found = cls_attention(backbone, views)
    assert found.shape == (2, 3, *(2, 3, 1)[:ndim])
    whole = by_hand(backbone, views, -1)
    torch.testing.assert_close(found.flatten(2), whole[:, :, 1 + num_registers :], atol=1e-5, rtol=1e-4)
    assert (found.flatten(2).sum(-1) < 1).all()


def test_other_blocks_attend_otherwise():
    backbone, views = network(), torch.randn(1, 1, 8, 8, 8)
    third = cls_attention(backbone, views, 3)
    torch.testing.assert_close(third.flatten(2), by_hand(backbone, views, 3)[:, :, 1:], atol=1e-5, rtol=1e-4)
    assert not torch.allclose(third, cls_attention(backbone, views), rtol=1e-3, atol=0)


def test_cnns_have_none():
    cnn = build_backbone(backbone_settings({"name": "resenc-tiny", "ndim": 2}, "test"), 0)
    assert has_attention(network())
    assert not has_attention(cnn)
