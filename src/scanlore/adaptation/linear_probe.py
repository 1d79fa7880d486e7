"""Protocol `linear-probe`: a grid of linear heads on frozen features, the best by validation.

3DINO, "Linear classification probing": SGD with momentum, a cosine schedule, cross-entropy. The heads that share their
input train together as one weight tensor; each sees the very same batches.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from scanlore.adaptation.fitted import Fitted, Labels, Probabilities
from scanlore.adaptation.settings import LinearProbeSettings
from scanlore.errors import ConfigError, DataError
from scanlore.inference.extract import FeatureTable
from scanlore.inference.forward import Floats

INIT_STD = 0.01


@dataclass(frozen=True)
class _Head:
    """One configuration after training; ordered by preference among equals."""

    score: float
    learning_rate: float
    num_layers: int
    avg_pool: bool
    weight: Tensor

    @property
    def preference(self) -> tuple[float, float, int, bool]:
        return -self.score, self.learning_rate, self.num_layers, self.avg_pool


def fit_linear_probe(
    settings: LinearProbeSettings,
    train: FeatureTable,
    labels: Labels,
    val: FeatureTable,
    val_labels: Labels,
    *,
    score: Callable[[Labels, Probabilities], float],
    selection: str,
    seed: int = 0,
    device: str = "cpu",
) -> Fitted:
    """Train all heads of the grid and keep the best by validation; of equals the lowest learning rate.

    Args:
        settings: The grid and the optimiser.
        train: Features of N training cases.
        labels: `(N,)` classes; every class `0 .. K-1` has a case.
        val: Features of M validation cases.
        val_labels: `(M,)` classes.
        score: Metric to choose by; larger is better, NaN is never chosen.
        selection: What to call the rule.
        seed: Of the initial weights and the order of cases.
        device: Where the heads train.

    Raises:
        ConfigError: The model has fewer layers than every `last_layers` asks for.
        DataError: No head has a validation score.
    """
    available = [number for number in settings.last_layers if number <= len(train.cls)]
    if not available:
        fix = f"the model has {len(train.cls)}"
        raise ConfigError(f"more layers than the model has: {settings.last_layers}", where="last_layers", fix=fix)
    heads: list[_Head] = []
    for num_layers in available:
        for avg_pool in settings.avg_pool:
            inputs = [torch.from_numpy(probe_input(table, num_layers, avg_pool)).to(device) for table in (train, val)]
            bank = train_bank(settings, inputs[0], torch.from_numpy(labels).to(device), seed)
            for learning_rate, weight in zip(settings.learning_rates, bank.unbind(1), strict=True):
                value = score(val_labels, _probabilities(inputs[1], weight))
                heads.append(_Head(value, learning_rate, num_layers, avg_pool, weight.cpu()))
    best = min((head for head in heads if math.isfinite(head.score)), key=lambda head: head.preference, default=None)
    if best is None:
        raise DataError("no head of the grid has a validation score", fix="give more validation cases")
    return _fitted(best, heads, settings, selection, num_left_out=len(settings.last_layers) - len(available))


def probe_input(table: FeatureTable, num_layers: int, avg_pool: bool) -> Floats:
    """Return the `(N, D_in + 1)` input of a head: last layers' [CLS], the mean patch token, and a one for the bias."""
    one = np.ones((len(table.names), 1), np.float32)
    parts = [*table.cls[-num_layers:], *([table.patch_mean] if avg_pool else []), one]
    return np.concatenate(parts, axis=1, dtype=np.float32)


def train_bank(settings: LinearProbeSettings, inputs: Tensor, labels: Tensor, seed: int) -> Tensor:
    """Train one softmax regression per learning rate on the same input.

    The gradient of the cross-entropy of softmax regression is closed: `x^T (softmax(x w) - onehot) / B`.

    Args:
        settings: Learning rates and optimiser.
        inputs: `(N, D_in + 1)`, the last column ones.
        labels: `(N,)` classes `0 .. K-1`.
        seed: Of the initial weights and the order of cases.

    Returns:
        `(D_in + 1, H, K)` weights of the H learning rates, biases in the last row.
    """
    targets_NK = F.one_hot(labels.long()).float()
    num_heads, num_classes = len(settings.learning_rates), targets_NK.shape[1]
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(inputs.shape[1], num_heads, num_classes, generator=generator) * INIT_STD
    weight[-1] = 0
    weight = weight.to(inputs.device)
    rates = torch.tensor(settings.learning_rates, device=inputs.device)[:, None]
    momentum = torch.zeros_like(weight)
    for step, rows in enumerate(_batches(len(inputs), settings, generator)):
        x_BD, target_BK = inputs[rows.to(inputs.device)], targets_NK[rows.to(inputs.device)]
        logits_BHK = (x_BD @ weight.flatten(1)).view(-1, num_heads, num_classes)
        error_BHK = (logits_BHK.softmax(-1) - target_BK[:, None]) / len(rows)
        gradient = (x_BD.T @ error_BHK.flatten(1)).view_as(weight)
        momentum.mul_(settings.momentum).add_(gradient).add_(weight, alpha=settings.weight_decay)
        cosine = (1 + math.cos(math.pi * step / settings.steps)) / 2
        weight.addcmul_(momentum, rates, value=-cosine)
    return weight


def _batches(num_cases: int, settings: LinearProbeSettings, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield the cases of each step, going through shuffled epochs without a break."""
    size = min(settings.batch_size, num_cases)
    waiting = torch.empty(0, dtype=torch.long)
    for _ in range(settings.steps):
        if len(waiting) < size:
            waiting = torch.cat([waiting, torch.randperm(num_cases, generator=generator)])
        yield waiting[:size]
        waiting = waiting[size:]


def _probabilities(inputs: Tensor, weight: Tensor) -> Probabilities:
    return (inputs @ weight).double().softmax(-1).cpu().numpy()


def _fitted(
    best: _Head, heads: list[_Head], settings: LinearProbeSettings, selection: str, num_left_out: int
) -> Fitted:
    def predict(table: FeatureTable) -> Probabilities:
        return _probabilities(torch.from_numpy(probe_input(table, best.num_layers, best.avg_pool)), best.weight)

    warnings = []
    if (
        best.learning_rate in (settings.learning_rates[0], settings.learning_rates[-1])
        and len(settings.learning_rates) > 1
    ):
        warnings.append(f"the best learning rate, {best.learning_rate:g}, is at the edge of the grid")
    if num_left_out:
        warnings.append(f"{num_left_out} of the asked numbers of last layers are more than the model has")
    num_diverged = sum(not math.isfinite(head.score) for head in heads)
    if num_diverged:
        warnings.append(f"{num_diverged} of {len(heads)} heads have no validation score: they diverged")
    chosen = {"learning_rate": best.learning_rate, "last_layers": best.num_layers, "avg_pool": best.avg_pool}
    return Fitted(predict, len(heads), selection, chosen | {"val_score": best.score}, tuple(warnings))
