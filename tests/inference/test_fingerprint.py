import torch
from torch import nn

from scanlore.inference.fingerprint import weights_fingerprint


def test_only_the_weights_count():
    torch.manual_seed(0)
    first, second = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
    assert weights_fingerprint(first) == weights_fingerprint(second)
    second.running_mean[0] += 1e-3
    assert weights_fingerprint(first) != weights_fingerprint(second)
