import pytest
import torch

from scanlore.backbones.resenc import ResEnc
from scanlore.backbones.settings import ResEncSettings
from scanlore.config import validate
from scanlore.errors import ConfigError
from scanlore.methods.contract import Progress
from scanlore.methods.masked import hidden_blocks, hidden_loss, in_voxels, mask_grid
from scanlore.methods.s3d.method import S3DMethod
from scanlore.methods.s3d.settings import S3DSettings
from scanlore.views.loader import Batch, ViewGroup

START = Progress(0, 10)
ROWS = {  # Table 1a, from top to bottom
    "dense": {"sparse": False, "mask_token": False, "densify": False},
    "sparse": {"mask_token": False, "densify": False},
    "token": {"densify": False},
    "densify": {},
}


def tiny(row="densify", ndim=3) -> S3DMethod:
    torch.manual_seed(0)
    method = S3DMethod(ResEnc(ResEncSettings(name="resenc-tiny", ndim=ndim)), S3DSettings(**ROWS[row]))
    for name, parameter in method.named_parameters():  # the last norms of residual branches start at zero
        if parameter.requires_grad and name.endswith("norm.weight"):
            torch.nn.init.ones_(parameter)
    return method


def batch_of(ndim=3, edge=16, block=8, hidden=(3, 5), num_views=2):
    generator = torch.Generator().manual_seed(1)
    cells = (edge // block) ** ndim
    masks = torch.zeros(num_views, cells, dtype=torch.bool)
    for row, count in enumerate(hidden[:num_views]):
        masks[row, torch.randperm(cells, generator=generator)[: min(count, cells - 1)]] = True
    empty = torch.empty(0)
    pixels = torch.randn(num_views, 1, *(edge,) * ndim, generator=generator)
    return Batch(0, ["a", "b"][:num_views], {"views": ViewGroup(pixels, empty, empty, empty, empty)}, masks)


@pytest.mark.parametrize("row", ROWS)
def test_every_parameter_gets_a_gradient(row):
    method = tiny(row)
    sum(method(batch_of(hidden=(7, 7)), START).values()).backward()
    without = [rule.name for rule in method.param_rules() if method.get_parameter(rule.name).grad is None]
    assert without == []


def test_two_axes():
    assert tiny(ndim=2)(batch_of(ndim=2, hidden=(2, 3)), START)["reconstruction"].isfinite()


def test_hidden_voxels_have_no_influence_on_the_output():
    method, batch = tiny(), batch_of()
    before = method.reconstruct(batch)
    hidden = before.hidden.bool()
    batch.groups["views"].pixels = torch.where(hidden, torch.full_like(before.views, 50.0), before.views)
    assert torch.equal(method.reconstruct(batch).output, before.output)


def test_the_loss_is_of_hidden_voxels_alone():
    method, batch = tiny(), batch_of()
    seen = method.reconstruct(batch)
    squares = ((seen.output - seen.views) ** 2)[seen.hidden.bool()]
    assert method(batch, START)["reconstruction"].item() == pytest.approx(float(squares.mean()), rel=1e-5)


def test_the_mask_of_a_batch_in_voxels():
    batch = batch_of(hidden=(1, 0))
    blocks = hidden_blocks(batch)
    assert blocks.shape == (2, 1, 2, 2, 2)
    assert in_voxels(blocks, batch.groups["views"].pixels).sum().item() == 8**3


def test_the_grid_of_a_mask_on_a_view_that_is_no_cube():
    assert mask_grid((40, 56, 40), 5 * 7 * 5) == (5, 7, 5)
    assert mask_grid((32, 48), 2 * 3) == (2, 3)


def test_nothing_hidden_gives_no_loss():
    views = torch.ones(1, 1, 4, 4, 4)
    assert hidden_loss(views + 1, views, torch.zeros_like(views)) == 0


def test_the_sparse_encoder_sees_other_statistics_than_the_dense():
    batch = batch_of()
    outputs = [tiny(row).reconstruct(batch).output for row in ("dense", "sparse")]
    assert not torch.allclose(*outputs, atol=1e-3)


def test_the_finest_map_has_a_token_and_no_convolution():
    names = [name for name, _ in tiny().named_parameters() if name.startswith("densify.")]
    assert "densify.0.token" in names
    assert "densify.0.conv.weight" not in names
    assert "densify.1.conv.weight" in names


def test_tokens_need_a_sparse_encoder():
    with pytest.raises(ConfigError, match="they need sparse: true"):
        validate(S3DSettings, {"sparse": False}, "recipe")


def test_it_learns_a_batch_by_heart():
    method, batch = tiny(), batch_of(num_views=1)
    optimizer = torch.optim.AdamW([p for p in method.parameters() if p.requires_grad], 3e-3)
    losses = []
    for _ in range(40):
        loss = method(batch, START)["reconstruction"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]


def test_it_exports_encoder_and_decoder():
    method = tiny()
    assert method.exported().forward(torch.zeros(1, 1, 16, 16, 16)).shape == (1, 1, 16, 16, 16)
