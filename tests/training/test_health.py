import math

import numpy as np
import pytest
import torch

from scanlore.training.health import alarm, effective_rank, feature_std, health


@pytest.fixture
def random_embeddings():
    return torch.randn(40, 16, generator=torch.Generator().manual_seed(0))


def test_feature_std_equals_numpy(random_embeddings):
    x = random_embeddings.numpy().astype(np.float64)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    assert feature_std(random_embeddings) == pytest.approx(unit.std(0).mean() * 4, rel=1e-9)


def test_feature_std_of_isotropic_and_of_equal_embeddings(random_embeddings):
    assert feature_std(random_embeddings) == pytest.approx(1, abs=0.05)
    assert feature_std(torch.ones(40, 16)) == pytest.approx(0, abs=1e-9)


def test_effective_rank_equals_numpy(random_embeddings):
    x = random_embeddings.numpy().astype(np.float64)
    shares = np.linalg.svd(x - x.mean(0), compute_uv=False)
    shares /= shares.sum()
    assert effective_rank(random_embeddings) == pytest.approx(np.exp(-(shares * np.log(shares)).sum()), rel=1e-6)


@pytest.mark.parametrize("rank", [1, 3])
def test_effective_rank_of_equal_directions(rank):
    corners = torch.cat([torch.eye(rank), -torch.eye(rank)])
    assert effective_rank(torch.cat([corners, torch.zeros(2 * rank, 5)], 1) + 7.0) == pytest.approx(rank, rel=1e-6)


def test_effective_rank_of_equal_embeddings_is_one():
    assert effective_rank(torch.full((8, 4), 3.0)) == 1


def test_alarm_is_silent_on_random_embeddings(random_embeddings):
    values = health(random_embeddings) | {"teacher_entropy": 0.5 * math.log(64)}
    assert alarm(values, 64) is None


def test_alarm_fires_on_constant_embeddings_and_says_what_to_change():
    text = alarm(health(torch.ones(8, 16)), 64)
    assert text.startswith("collapse: ")
    assert "nearly equal" in text
    assert "Lower optim.lr" in text
    assert "method.koleo_weight: 0" in text


def test_alarm_fires_on_one_direction():
    line = torch.randn(40, 1, generator=torch.Generator().manual_seed(0)) * torch.ones(1, 16)
    assert "directions" in alarm(health(line), 64)


@pytest.mark.parametrize(("entropy", "fires"), [(math.log(64), True), (0.99 * math.log(64), False)])
def test_alarm_fires_on_uniform_targets(random_embeddings, entropy, fires):
    assert bool(alarm(health(random_embeddings) | {"teacher_entropy": entropy}, 64)) is fires
