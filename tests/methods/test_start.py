import pytest
import torch

from scanlore.errors import ModelError
from scanlore.methods.contract import Progress
from scanlore.registry import BACKBONES, BackboneEntry
from scanlore.training.optimizer import build_optimizer, set_schedules
from tiny_pretraining import tiny_method, tiny_settings


@pytest.fixture(autouse=True)
def small_vit(monkeypatch):
    monkeypatch.setitem(BACKBONES, "vit-tiny", BackboneEntry("vit", 24, 2, 3))


def method_of(*overrides):
    return tiny_method(tiny_settings(*overrides))


def names_of(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def test_heads_are_those_of_the_teacher_under_published_names():
    method = method_of()
    with torch.no_grad():
        method.teacher.dino_head.mlp[0].bias.fill_(7)
    heads = method.heads()
    layers = [f"mlp.{i}.{kind}" for i in (0, 2, 4) for kind in ("weight", "bias")]
    wanted = {f"{head}.{name}" for head in ("dino_head", "ibot_head") for name in [*layers, *LAST]}
    assert heads.keys() == wanted
    assert torch.all(heads["dino_head.mlp.0.bias"] == 7)
    assert method_of("method.separate_head=false").heads().keys() == {n for n in wanted if n.startswith("dino")}


LAST = ("last_layer.weight_g", "last_layer.weight_v")


def test_a_start_fills_student_and_every_teacher():
    gram = ("method.gram={}", "views.gram_size=16")
    given, method = method_of("seed=1").heads(), method_of("seed=2", *gram)
    with torch.no_grad():
        method.student.backbone.cls_token.fill_(5)
    method.start_from({name: tensor.half() for name, tensor in given.items()})
    for network in (method.student, method.teacher):
        for name, tensor in given.items():
            torch.testing.assert_close(network.state_dict()[name], tensor.half().float())
        assert torch.all(network.backbone.cls_token == 5)
    assert torch.all(method.gram_teacher.cls_token == 5)


def test_a_head_that_is_not_given_stays_fresh():
    given, method = method_of("seed=1").heads(), method_of("seed=2")
    fresh = names_of(method.student)
    method.start_from({name: tensor for name, tensor in given.items() if name.startswith("dino_head.")})
    for network in (method.student, method.teacher):
        assert torch.equal(network.state_dict()["ibot_head.mlp.0.weight"], fresh["ibot_head.mlp.0.weight"])
        assert torch.equal(network.state_dict()["dino_head.mlp.0.weight"], given["dino_head.mlp.0.weight"])


@pytest.mark.parametrize(
    ("overrides", "change", "words"),
    [
        (["method.separate_head=false"], {}, "do not belong to this run, first ibot_head"),
        (["method.head.prototypes=32"], {}, r"dino_head.last_layer.weight_g is of shape \(64, 1\), and \(32, 1\)"),
        ([], {"dino_head.mlp.4.bias": None}, "1 tensors of the heads are missing, first dino_head.mlp.4.bias"),
        ([], {"dino_head.mlp.9.bias": torch.zeros(1)}, "do not belong to this run, first dino_head.mlp.9.bias"),
    ],
)
def test_heads_that_do_not_fit_are_refused_and_change_nothing(overrides, change, words):
    heads = {name: t for name, t in (method_of("seed=1").heads() | change).items() if t is not None}
    method = method_of("seed=2", *overrides)
    before = names_of(method)
    with pytest.raises(ModelError, match=words):
        method.start_from(heads)
    assert all(torch.equal(tensor, before[name]) for name, tensor in method.state_dict().items())


def test_the_backbone_rests_while_heads_warm_up():
    settings = tiny_settings("optim.warmup=0", "optim.schedule=constant")
    method = tiny_method(settings)
    method.rest_backbone(0.2, 0.4)
    optimizer = build_optimizer(method, method.param_rules(), settings.optim)
    names = {id(parameter): name for name, parameter in method.named_parameters()}

    def factors(step):
        lr = set_schedules(optimizer, settings.optim, 4, Progress(step, 100))["lr"]
        return {names[id(p)]: group["lr"] / lr for group in optimizer.param_groups for p in group["params"]}

    for step, factor in {0: 0, 19: 0, 20: 0, 40: 0.5, 60: 1, 99: 1}.items():
        found = factors(step)
        assert found["student.backbone.norm.weight"] == pytest.approx(factor)
        assert found["student.backbone.patch_embed.proj.weight"] == pytest.approx(0.2 * factor)
        assert found["student.dino_head.mlp.0.weight"] == 1
