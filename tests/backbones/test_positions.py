import pytest
import torch

from scanlore.backbones.positions import resize_grid
from scanlore.backbones.settings import ViTSettings


def ramp(*grid):
    """A position embedding whose channels are the places along each axis, in [0, 1], behind a [CLS] of 9."""
    places = [(torch.arange(n) + 0.5) / n for n in grid]
    cells = torch.stack(torch.meshgrid(*places, indexing="ij"), -1).flatten(0, -2)
    return torch.cat([torch.full((1, len(grid)), 9.0), cells])[None]


@pytest.mark.parametrize(("stored", "wanted"), [((4, 4), (6, 3)), ((3, 4, 5), (4, 2, 5))])
def test_every_axis_keeps_its_own_direction(stored, wanted):
    resized = resize_grid(ramp(*stored), stored, wanted, ViTSettings(name="vit-tiny", ndim=len(stored)))
    expected = ramp(*wanted)
    assert torch.equal(resized[:, 0], expected[:, 0])
    inside = slice(0.15, 0.85)
    middle = ((expected > inside.start) & (expected < inside.stop)).all(-1)
    torch.testing.assert_close(resized[middle], expected[middle], atol=0.03, rtol=0)


def test_precision_is_kept():
    resized = resize_grid(ramp(4, 4).bfloat16(), (4, 4), (5, 5), ViTSettings(name="vit-tiny", ndim=2))
    assert resized.dtype == torch.bfloat16
