import torch

from scanlore.methods.dino.head import DinoHead
from scanlore.methods.dino.settings import HeadSettings

SETTINGS = HeadSettings(prototypes=64, bottleneck=16, hidden=32)


def test_shapes_and_parameter_names_of_published_heads():
    names = {name: tuple(value.shape) for name, value in DinoHead(24, SETTINGS).named_parameters()}
    layers = {"mlp.0": (32, 24), "mlp.2": (32, 32), "mlp.4": (16, 32)}
    expected = {f"{name}.weight": shape for name, shape in layers.items()}
    expected |= {f"{name}.bias": shape[:1] for name, shape in layers.items()}
    assert names == expected | {"last_layer.weight_g": (64, 1), "last_layer.weight_v": (64, 16)}


def test_scores_are_cosines_at_first():
    head, x = DinoHead(24, SETTINGS), torch.randn(5, 24)
    bottleneck = head.mlp(x)
    expected = torch.cosine_similarity(bottleneck[:, None], head.last_layer.weight_v[None], dim=-1)
    torch.testing.assert_close(head(x), expected)


def test_weight_g_scales_the_prototypes():
    head, x = DinoHead(24, SETTINGS), torch.randn(5, 24)
    before = head(x)
    with torch.no_grad():
        head.last_layer.weight_g.mul_(3)
    torch.testing.assert_close(head(x), 3 * before)


def test_no_rows():
    assert DinoHead(24, SETTINGS)(torch.empty(0, 24)).shape == (0, 64)
