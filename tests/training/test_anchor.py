import torch
from torch import nn

from scanlore.methods.contract import ParamRule
from scanlore.training.anchor import Anchor


class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.head = (nn.Parameter(torch.zeros(2)) for _ in range(3))


RULES = [ParamRule("a", "backbone"), ParamRule("b", "backbone"), ParamRule("head", "dino_head")]


def moved(strength):
    module = Tiny()
    anchor = Anchor(module, RULES, strength)
    groups = [{"params": [module.a], "lr": 0.5}, {"params": [module.b, module.head], "lr": 0.1}]
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 1
    anchor.pull(torch.optim.SGD(groups))
    return anchor, [float(parameter[0]) for parameter in (module.a, module.b, module.head)]


def test_the_backbone_goes_back_by_its_own_learning_rate():
    anchor, values = moved(0.2)
    torch.testing.assert_close(values, [1 - 0.5 * 0.2, 1 - 0.1 * 0.2, 1.0])
    assert anchor.start.keys() == {"a", "b"}
    assert not any(start.any() for start in anchor.start.values())


def test_no_strength_no_pull_and_no_memory():
    anchor, values = moved(0.0)
    assert values == [1.0, 1.0, 1.0]
    assert anchor.start == {}


def test_the_backbone_of_a_method_without_parts_is_found_by_name():
    module = nn.ModuleDict({"backbone": nn.Linear(1, 1), "decoder": nn.Linear(1, 1)})
    rules = [ParamRule(name, "network") for name, _ in module.named_parameters()]
    assert Anchor(module, rules, 1.0).start.keys() == {"backbone.weight", "backbone.bias"}
