import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from scanlore.adaptation.linear_probe import fit_linear_probe, probe_input, train_bank
from scanlore.adaptation.settings import LinearProbeSettings
from scanlore.errors import ConfigError, DataError
from scanlore.inference.extract import FeatureTable

LABELS = np.arange(120) % 2
FAST = LinearProbeSettings(learning_rates=(0.01, 0.1, 1.0), last_layers=(1, 2), steps=100)


def auroc(targets, probabilities):
    return roc_auc_score(targets, probabilities[:, 1])


def noise(seed, num_layers=2):
    return np.random.default_rng(seed).normal(size=(120, num_layers, 6))


def fit(train, val, settings=FAST, score=auroc, seed=0):
    return fit_linear_probe(settings, train, LABELS, val, LABELS, score=score, selection="best auroc", seed=seed)


def separable(make_features, seed, layer):
    cls = noise(seed)
    cls[:, layer, 2] = np.where(LABELS, 1, -1) + 0.1 * cls[:, layer, 2]
    return make_features(cls)


def test_a_separable_direction_is_found(make_features):
    fitted = fit(separable(make_features, 0, 1), separable(make_features, 1, 1))
    assert auroc(LABELS, fitted.predict(separable(make_features, 2, 1))) == 1
    assert fitted.num_configs == 3 * 2 * 2


def test_the_layer_that_knows_is_chosen(make_features):
    fitted = fit(separable(make_features, 0, 0), separable(make_features, 1, 0))
    assert fitted.chosen["last_layers"] == 2


def test_patch_tokens_are_chosen_when_they_know(make_features):
    train, val = (make_features(noise(seed), np.where(LABELS, 1, -1)[:, None] * np.ones((1, 6))) for seed in (0, 1))
    assert fit(train, val).chosen["avg_pool"] is True


def test_shuffled_labels_stay_near_chance(make_features):
    fitted = fit(make_features(noise(0)), make_features(noise(1)))
    assert 0.3 < auroc(LABELS, fitted.predict(make_features(noise(2)))) < 0.7


def test_equals_take_the_lowest_learning_rate_and_the_edge_is_named(make_features):
    fitted = fit(separable(make_features, 0, 1), separable(make_features, 1, 1), score=lambda *_: 0.5)
    assert fitted.chosen["learning_rate"] == 0.01
    assert fitted.chosen["last_layers"] == 1
    assert "the best learning rate, 0.01, is at the edge of the grid" in fitted.warnings


def test_the_seed_decides(make_features):
    data = make_features(noise(0)), make_features(noise(1))
    first, again, other = (fit(*data, seed=seed).predict(data[1]) for seed in (0, 0, 1))
    assert (first == again).all()
    assert (first != other).any()


def test_layers_the_model_lacks_are_left_out(make_features):
    settings = LinearProbeSettings(steps=10)
    fitted = fit(make_features(noise(0)), make_features(noise(1)), settings)
    assert fitted.num_configs == 13 * 2 * 2
    assert any("last layers" in warning for warning in fitted.warnings)
    with pytest.raises(ConfigError, match="the model has 2"):
        fit(make_features(noise(0)), make_features(noise(1)), LinearProbeSettings(last_layers=(3,)))


def test_no_validation_score(make_features):
    with pytest.raises(DataError, match="validation score"):
        fit(make_features(noise(0)), make_features(noise(1)), score=lambda *_: float("nan"))


def test_the_input_is_concatenated_with_a_one(make_features):
    table = make_features([[[1, 2], [3, 4]]], [[5, 6]])
    assert probe_input(table, 1, avg_pool=False).tolist() == [[3, 4, 1]]
    assert probe_input(table, 2, avg_pool=True).tolist() == [[1, 2, 3, 4, 5, 6, 1]]


def test_layers_of_other_widths_are_concatenated():
    layers = (np.ones((3, 1)), np.full((3, 2), 2.0), np.full((3, 4), 3.0))
    table = FeatureTable(("a", "b", "c"), layers, np.zeros((3, 4)), layers[-1], (1, 1, 1))
    assert probe_input(table, 2, avg_pool=False).tolist() == [[2, 2, 3, 3, 3, 3, 1]] * 3


def test_a_bank_equals_torch_sgd_for_every_learning_rate():
    settings = LinearProbeSettings(learning_rates=(0.01, 0.3), steps=30, batch_size=64, weight_decay=0.1)
    inputs = torch.from_numpy(np.concatenate([noise(0)[:64, 0], np.ones((64, 1))], 1)).float()
    labels = torch.from_numpy(LABELS[:64])
    bank = train_bank(settings, inputs, labels, seed=3)
    start = torch.randn(7, 2, 2, generator=torch.Generator().manual_seed(3)) * 0.01
    start[-1] = 0
    for head, rate in enumerate(settings.learning_rates):
        weight = start[:, head].clone().requires_grad_()
        optimiser = torch.optim.SGD([weight], lr=rate, momentum=0.9, weight_decay=0.1)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 30)
        for _ in range(30):
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(inputs @ weight, labels).backward()
            optimiser.step()
            schedule.step()
        torch.testing.assert_close(bank[:, head], weight.detach(), rtol=1e-4, atol=1e-5)
