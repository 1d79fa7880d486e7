from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from scanlore.backbones.features import Features
from scanlore.errors import DataError


class FakeModel(nn.Module):
    """A view for each channel, cut to 4 voxels an axis; layer `l` says its mean plus `l`; maps are 2 an axis."""

    num_layers = 3
    num_parameters = 0

    def __init__(self, embedding="cls"):
        super().__init__()
        self.preprocessing = SimpleNamespace(embedding=embedding, input_size=4)

    def views(self, scan):
        if min(scan.shape) < 4:
            raise DataError("too small")
        cut = scan.voxels[(slice(None), *(slice(0, 4),) * scan.ndim)]
        return torch.from_numpy(cut.astype(np.float32))[:, None]

    def view_affines(self, scan):
        return [np.eye(scan.ndim + 1)[:-1]] * scan.num_channels

    def forward_features(self, x, layers=1):
        mean = x.flatten(1).mean(1, keepdim=True)
        pool = nn.functional.avg_pool2d if x.ndim == 4 else nn.functional.avg_pool3d
        depths = range(self.num_layers - layers, self.num_layers)
        embeddings = [torch.cat([mean + depth, -mean], 1) for depth in depths]
        return Features(embeddings, [pool(x, 2)], norm="none")


@pytest.fixture
def model():
    return FakeModel()
