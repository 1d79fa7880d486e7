"""The projection head of DINO (Caron et al. 2021, appendix C); parameter names are those of published heads."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scanlore.errors import ModelError
from scanlore.methods.dino.settings import HeadSettings


class WeightNormLinear(nn.Module):
    """A linear layer without bias whose rows have a learned length."""

    def __init__(self, dim: int, out: int) -> None:
        super().__init__()
        self.weight_g = nn.Parameter(torch.ones(out, 1))
        self.weight_v = nn.Parameter(torch.empty(out, dim))
        nn.init.normal_(self.weight_v, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Return `(N, out)`."""
        return F.linear(x, F.normalize(self.weight_v, dim=-1) * self.weight_g)


class DinoHead(nn.Module):
    """MLP, L2 normalisation, prototypes.

    Args:
        dim: Width of the backbone.
        settings: Its own widths.
    """

    def __init__(self, dim: int, settings: HeadSettings) -> None:
        super().__init__()
        widths = [dim] + [settings.hidden] * (settings.layers - 1) + [settings.bottleneck]
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(widths):
            layers += [nn.Linear(before, after), nn.GELU()]
        self.mlp = nn.Sequential(*layers[:-1])
        self.last_layer = WeightNormLinear(settings.bottleneck, settings.prototypes)
        for layer in self.mlp:
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return prototype scores `(N, K)`."""
        scores: Tensor = self.last_layer(F.normalize(self.mlp(x), dim=-1, eps=1e-6))
        return scores


def load_heads(network: nn.Module, heads: dict[str, Tensor]) -> None:
    """Load whole heads into a network; a head of which nothing is given stays as it is.

    Args:
        network: With the heads `dino_head` and perhaps `ibot_head`.
        heads: Tensors by name, e.g. `dino_head.mlp.0.weight`.

    Raises:
        ModelError: A tensor is missing, unknown or of another shape; nothing was changed.
    """
    own = {name: t for name, t in network.state_dict().items() if not name.startswith("backbone.")}
    given = {name.split(".")[0] for name in heads}
    wanted = {name for name in own if name.split(".")[0] in given}
    fix = "the settings under method.head and method.separate_head must be those of the heads; or start fresh ones"
    problems = {"do not belong to this run": heads.keys() - wanted, "are missing": wanted - heads.keys()}
    for problem, names in problems.items():
        if names:
            raise ModelError(f"{len(names)} tensors of the heads {problem}, first {min(names)}", fix=fix)
    for name in sorted(wanted):
        if heads[name].shape != own[name].shape:
            shapes = f"{tuple(heads[name].shape)}, and {tuple(own[name].shape)} in this run"
            raise ModelError(f"{name} is of shape {shapes}", fix=fix)
    with torch.no_grad():
        for name in wanted:
            own[name].copy_(heads[name])
