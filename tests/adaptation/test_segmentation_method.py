import torch
from torch import nn

from scanlore.adaptation.segmentation_method import SegmentationMethod
from scanlore.methods.contract import Progress
from scanlore.views.patches import LabelledBatch

SHARES = {"encoder": 0.5, "frozen": 1.0, "decoder": 0.0}


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.frozen = nn.Conv3d(1, 2, 1), nn.Conv3d(2, 2, 1)
        self.decoder = nn.Conv3d(2, 3, 1)

    def forward(self, x):
        return self.decoder(self.frozen(self.encoder(x)))


def method_and_batch():
    torch.manual_seed(0)
    method = SegmentationMethod(Net(), lambda name: SHARES[name.partition(".")[0]])
    empty = torch.empty(0)
    labels = torch.randint(3, (2, 4, 4, 4), dtype=torch.int16)
    return method, LabelledBatch(0, ["a", "b"], torch.randn(2, 1, 4, 4, 4), labels, empty)


def learners(share):
    method, batch = method_and_batch()
    sum(method(batch, Progress(int(share * 100), 100)).values()).backward()
    return {name.split(".")[1] for name, p in method.named_parameters() if p.grad is not None}


def test_parts_rest_for_their_share_of_the_run():
    assert learners(0.0) == {"decoder"}
    assert learners(0.49) == {"decoder"}
    assert learners(0.5) == {"decoder", "encoder"}


def test_what_never_learns_has_no_rule():
    rules = {rule.name: rule.frozen_share for rule in method_and_batch()[0].param_rules()}
    assert rules == {
        "network.encoder.weight": 0.5,
        "network.encoder.bias": 0.5,
        "network.decoder.weight": 0.0,
        "network.decoder.bias": 0.0,
    }


def test_parameters_that_came_frozen_stay_so():
    net = Net()
    net.encoder.requires_grad_(False)
    method = SegmentationMethod(net, lambda name: 0.0)
    method(method_and_batch()[1], Progress(0, 1))
    assert not net.encoder.weight.requires_grad
    assert net.decoder.weight.requires_grad


def test_it_learns_a_batch_by_heart():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv3d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv3d(16, 3, 3, padding=1))
    method, batch = SegmentationMethod(net, lambda name: 0.0), method_and_batch()[1]
    optimizer = torch.optim.Adam(method.parameters(), 1e-2)
    losses = []
    for step in range(150):
        loss = sum(method(batch, Progress(step, 150)).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]
