import numpy as np
import pytest
import torch

from scanlore.adaptation.segmentation_loss import cross_entropy_loss, soft_dice_loss


def draw(num_classes=3, shape=(4, 5, 3), seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, num_classes, *shape, generator=generator)
    return logits, torch.randint(num_classes, (2, *shape), generator=generator).to(torch.int16)


def numpy_dice_loss(logits, labels):
    exponents = np.exp(logits - logits.max(1, keepdims=True))
    probabilities = exponents / exponents.sum(1, keepdims=True)
    dice = [
        (2 * (p * (y == k)).sum() + 1e-5) / (p.sum() + (y == k).sum() + 1e-5)
        for sample, y in zip(probabilities, labels, strict=True)
        for k, p in enumerate(sample)
        if k > 0
    ]
    return 1 - np.mean(dice)


@pytest.mark.parametrize("shape", [(4, 5, 3), (6, 7)])
def test_dice_equals_its_formula(shape):
    logits, labels = draw(shape=shape)
    assert soft_dice_loss(logits, labels).item() == pytest.approx(numpy_dice_loss(logits.numpy(), labels.numpy()))


def test_a_sure_and_right_network_has_no_loss():
    _, labels = draw()
    logits = 100 * torch.nn.functional.one_hot(labels.long(), 3).movedim(-1, 1).float()
    assert soft_dice_loss(logits, labels).item() == pytest.approx(0, abs=1e-5)
    assert cross_entropy_loss(logits, labels).item() == pytest.approx(0, abs=1e-5)


def test_a_class_that_is_neither_there_nor_predicted_costs_nothing():
    labels = torch.zeros(1, 4, 4, dtype=torch.int16)
    logits = torch.tensor([60.0, -60.0, -60.0]).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    assert soft_dice_loss(logits, labels).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("loss", [soft_dice_loss, cross_entropy_loss])
def test_ignored_voxels_count_nowhere(loss):
    logits, labels = draw()
    labels[:, :2] = 3
    changed = logits.clone()
    changed[:, :, :2] = 9.0
    assert loss(logits, labels, ignore=3).item() == pytest.approx(loss(changed, labels, ignore=3).item())
    assert loss(logits, labels, ignore=3) != loss(logits, labels.clamp(max=2))


@pytest.mark.parametrize("loss", [soft_dice_loss, cross_entropy_loss])
def test_a_patch_of_ignored_voxels_alone_is_finite(loss):
    logits, labels = draw()
    assert loss(logits, torch.full_like(labels, 3), ignore=3).isfinite()
