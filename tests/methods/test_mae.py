import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from scanlore.backbones.resenc import ResEnc
from scanlore.backbones.settings import ResEncSettings, ViTSettings
from scanlore.backbones.vit import ViT
from scanlore.methods.contract import Progress
from scanlore.methods.mae.method import ViTMae, build, unpatch
from scanlore.methods.mae.settings import MaeDecoderSettings, MaeSettings
from scanlore.methods.s3d.method import S3DMethod
from scanlore.registry import BACKBONES, BackboneEntry
from scanlore.views.loader import Batch, ViewGroup

START = Progress(0, 10)
SETTINGS = MaeSettings(decoder=MaeDecoderSettings(depth=1, width=24, heads=2))


@pytest.fixture(autouse=True)
def small_vit(monkeypatch):
    monkeypatch.setitem(BACKBONES, "vit-tiny", BackboneEntry("vit", 24, 2, 2))


def tiny(ndim=3) -> ViTMae:
    torch.manual_seed(0)
    return build(ViT(ViTSettings(name="vit-tiny", ndim=ndim, patch_size=4, image_size=8, layer_scale=0)), SETTINGS)


def batch_of(ndim=3, num_hidden=5):
    generator = torch.Generator().manual_seed(1)
    cells = 2**ndim
    masks = torch.zeros(2, cells, dtype=torch.bool)
    for row in masks:
        row[torch.randperm(cells, generator=generator)[:num_hidden]] = True
    empty = torch.empty(0)
    pixels = torch.randn(2, 1, *(8,) * ndim, generator=generator)
    return Batch(0, ["a", "b"], {"views": ViewGroup(pixels, empty, empty, empty, empty)}, masks)


@pytest.mark.parametrize("ndim", [2, 3])
def test_patches_make_up_the_view_they_were_cut_from(ndim):
    view = torch.randn(2, 3, *(8,) * ndim)
    cells = view
    for axis in range(ndim):
        cells = cells.unflatten(2 + 2 * axis, (2, 4))
    grid_first = cells.permute(0, *range(2, 2 + 2 * ndim, 2), 1, *range(3, 3 + 2 * ndim, 2))
    patches = grid_first.flatten(1, ndim).flatten(2)
    assert torch.equal(unpatch(patches, (2,) * ndim, 4), view)


@pytest.mark.parametrize("ndim", [2, 3])
def test_every_parameter_gets_a_gradient(ndim):
    method = tiny(ndim)
    method(batch_of(ndim, num_hidden=2), START)["reconstruction"].backward()
    assert [rule.name for rule in method.param_rules() if method.get_parameter(rule.name).grad is None] == []


def test_hidden_voxels_have_no_influence_on_the_output():
    method, batch = tiny(), batch_of()
    before = method.reconstruct(batch)
    batch.groups["views"].pixels = torch.where(before.hidden.bool(), 50.0, before.views)
    assert torch.equal(method.reconstruct(batch).output, before.output)


def test_visible_voxels_have_influence_on_hidden_ones():
    method, batch = tiny(), batch_of()
    before = method.reconstruct(batch)
    batch.groups["views"].pixels = torch.where(before.hidden.bool(), before.views, 3.0)
    hidden = before.hidden.bool()
    assert (method.reconstruct(batch).output - before.output)[hidden].abs().min() > 0


def test_it_computes_the_visible_tokens_alone():
    method, seen = tiny(), []
    method.backbone.blocks[0].register_forward_hook(lambda module, inputs, out: seen.append(inputs[0].shape[0]))
    method(batch_of(num_hidden=6), START)
    assert seen == [2 * (1 + 2)]


def test_a_cnn_trains_dense():
    method = build(ResEnc(ResEncSettings(name="resenc-tiny")), MaeSettings())
    assert isinstance(method, S3DMethod)
    assert not method.settings.sparse


def test_it_learns_a_batch_by_heart():
    method, batch = tiny(), batch_of()
    optimizer = torch.optim.AdamW([p for p in method.parameters() if p.requires_grad], 1e-2)
    losses = []
    for _ in range(80):
        loss = method(batch, START)["reconstruction"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]


def test_a_step_needs_no_values():
    """As the number of hidden patches is known, no shape depends on what a device computes."""
    method, batch = tiny(), batch_of()
    with FakeTensorMode(allow_non_fake_inputs=True):
        assert method(batch, START)["reconstruction"].shape == ()
