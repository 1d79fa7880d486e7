import pytest
import torch

from scanlore.errors import ModelError
from scanlore.modelfolder.report import LoadReport, compare

SHAPES = {"a": (2,), "b": (3,), "c": (4,)}


def test_every_tensor_is_accounted_for():
    tensors = {"a": torch.zeros(2), "b": torch.zeros(4), "x": torch.zeros(1)}
    report = compare(tensors, SHAPES, [("a", "folded")], ["dino_head.mlp.0.bias"])
    assert (report.loaded, report.missing, report.unexpected) == (("a",), ("c",), ("dino_head.mlp.0.bias", "x"))
    assert (report.adapted, report.misfits) == ((("a", "folded"),), (("b", "(4,), not (3,)"),))


def test_lines_give_counts_and_first_names():
    report = LoadReport(
        loaded=("a", "b"), unexpected=("head.weight", "x"), adapted=(("a", "folded"), ("b", "folded"), ("c", "resized"))
    )
    assert report.lines() == [
        "loaded: 2 tensors (a ...)",
        "unexpected: 1 tensor (x)",
        "left aside: 1 tensor (head.weight)",
        "adapted: 2 tensors (a ...), folded",
        "adapted: 1 tensor (c), resized",
    ]
    assert str(report).splitlines() == report.lines()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"missing": ("c",)}, r"1 missing \(c\)"),
        ({"misfits": (("b", "(4,), not (3,)"),)}, r"1 of another shape \(b: \(4,\), not \(3,\)\)"),
        ({"unexpected": ("x", "y")}, r"2 unexpected \(x \.\.\.\)"),
    ],
)
def test_half_a_load_is_refused_in_one_line(change, says):
    with pytest.raises(ModelError, match=rf"w\.pth: .*{says}") as error:
        LoadReport(loaded=("a",), **change).check("w.pth")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["dino_head.last_layer.weight_g", "ibot_head.x", "head.weight", "student.backbone.a"])
def test_what_a_backbone_does_not_need_is_left_aside(name):
    LoadReport(loaded=("a",), unexpected=(name,)).check("w.pth")
