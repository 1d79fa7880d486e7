import math

import numpy as np
import pytest
import torch

from ranks import shared_center, shared_sinkhorn
from scanlore.methods.dino.losses import image_loss, koleo, patch_loss, sinkhorn_knopp, softmax_center, updated_center


def scores(*shape, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def log_softmax(x):
    shifted = x - x.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def sinkhorn_reference(logits, temp, iterations):
    q = np.exp((logits - logits.max()) / temp).astype(np.float64)
    q /= q.sum()
    num_rows, num_prototypes = q.shape
    for _ in range(iterations):
        for prototype in range(num_prototypes):
            q[:, prototype] /= q[:, prototype].sum() * num_prototypes
        for row in range(num_rows):
            q[row] /= q[row].sum() * num_rows
    return q * num_rows


def test_sinkhorn_knopp_equals_a_plain_loop():
    logits = scores(6, 10)
    found = sinkhorn_knopp(torch.from_numpy(logits), 0.04, 3)
    np.testing.assert_allclose(found, sinkhorn_reference(logits, 0.04, 3), rtol=2e-5, atol=1e-7)


def test_sinkhorn_knopp_rows_sum_to_one_and_prototypes_are_used_equally():
    found = sinkhorn_knopp(torch.from_numpy(scores(12, 4)), 0.3, 50)
    torch.testing.assert_close(found.sum(1), torch.ones(12))
    torch.testing.assert_close(found.sum(0), torch.full((4,), 3.0))


def test_sinkhorn_knopp_of_half_precision_scores_is_computed_in_float32():
    half = torch.from_numpy(scores(6, 10)).bfloat16()
    torch.testing.assert_close(sinkhorn_knopp(half, 0.04, 3), sinkhorn_knopp(half.float(), 0.04, 3))


@pytest.mark.parametrize("scale", [1, 10])
def test_sinkhorn_knopp_is_finite_when_a_prototype_is_never_used(scale):
    logits = torch.from_numpy(scores(6, 10)) * scale
    logits[:, 3] = -100.0
    assert sinkhorn_knopp(logits, 0.04, 3).isfinite().all()


def test_sinkhorn_knopp_of_nothing_is_nothing():
    assert sinkhorn_knopp(torch.empty(0, 10), 0.04, 3).shape == (0, 10)


def test_sinkhorn_knopp_leaves_its_input_alone():
    logits = torch.from_numpy(scores(6, 10))
    before = logits.clone()
    sinkhorn_knopp(logits, 0.04, 3)
    assert torch.equal(logits, before)


def test_softmax_center():
    logits, center = scores(5, 8), scores(8, seed=1)
    found = softmax_center(torch.from_numpy(logits), torch.from_numpy(center), 0.07)
    np.testing.assert_allclose(found, np.exp(log_softmax((logits - center) / 0.07)), rtol=1e-5, atol=1e-7)


def test_updated_center_is_a_running_mean():
    logits, center = scores(5, 8), scores(8, seed=1)
    found = updated_center(torch.from_numpy(center), torch.from_numpy(logits), 0.9)
    np.testing.assert_allclose(found, 0.9 * center + 0.1 * logits.mean(0), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("logits", [torch.empty(0, 8), torch.full((5, 8), math.nan)])
def test_updated_center_keeps_its_value_when_there_is_nothing_to_learn_from(logits):
    center = torch.from_numpy(scores(8))
    assert torch.equal(updated_center(center, logits, 0.9), center)


def image_loss_reference(student, teacher, temp):
    """Sum every pair of a student view with another teacher view; returns pairs, global and local sums."""
    num_pairs, parts = 0, {True: 0.0, False: 0.0}
    for s in range(len(student)):
        for t in range(len(teacher)):
            if s != t:
                num_pairs += 1
                parts[s < len(teacher)] -= (teacher[t] * log_softmax(student[s] / temp)).sum(-1).mean()
    return num_pairs, parts[True] / num_pairs, parts[False] / num_pairs


def test_image_loss_equals_a_loop_over_the_18_pairs():
    student, teacher = scores(10, 3, 16), np.exp(log_softmax(scores(2, 3, 16, seed=1) / 0.07))
    from_global, from_local = image_loss(torch.from_numpy(student), torch.from_numpy(teacher), 0.1)
    num_pairs, global_share, local_share = image_loss_reference(student, teacher, 0.1)
    assert num_pairs == 18
    assert float(from_global) == pytest.approx(global_share, rel=1e-5)
    assert float(from_local) == pytest.approx(local_share, rel=1e-5)


def test_image_loss_without_local_views():
    student, teacher = scores(2, 3, 16), np.exp(log_softmax(scores(2, 3, 16, seed=1)))
    from_global, from_local = image_loss(torch.from_numpy(student), torch.from_numpy(teacher), 0.1)
    assert float(from_global) == pytest.approx(image_loss_reference(student, teacher, 0.1)[1], rel=1e-5)
    assert float(from_local) == 0


def test_patch_loss_is_a_mean_per_crop_then_over_all_crops():
    temp, counts = 0.1, [3, 0, 1, 0]  # two of four crops have hidden patches
    student, teacher = scores(4, 16), np.exp(log_softmax(scores(4, 16, seed=1)))
    entropy = -(teacher * log_softmax(student / temp)).sum(-1)
    expected = (entropy[:3].mean() + 0 + entropy[3:].mean() + 0) / 4
    weights = torch.tensor([1 / count for count in counts for _ in range(count)])
    found = patch_loss(torch.from_numpy(student), torch.from_numpy(teacher), weights, len(counts), temp)
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_patch_loss_without_hidden_patches_is_zero():
    nothing = torch.empty(0, 16, requires_grad=True)
    loss = patch_loss(nothing, torch.empty(0, 16), torch.empty(0), 4, 0.1)
    loss.backward()
    assert float(loss.detach()) == 0


def test_losses_are_computed_in_float32_under_autocast():
    student, teacher = torch.from_numpy(scores(4, 3, 16)), torch.from_numpy(scores(2, 3, 16)).softmax(-1)
    flat, weights = student[0], torch.ones(3)
    exact = [*image_loss(student, teacher, 0.1), patch_loss(flat, teacher[0], weights, 2, 0.1), koleo(flat)]
    with torch.autocast("cpu", torch.bfloat16):
        found = [*image_loss(student, teacher, 0.1), patch_loss(flat, teacher[0], weights, 2, 0.1), koleo(flat)]
    torch.testing.assert_close(found, exact)


def koleo_reference(embeddings):
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    distances = []
    for i in range(len(unit)):
        others = [j for j in range(len(unit)) if j != i]
        distances.append(min(np.linalg.norm(unit[i] - unit[j]) for j in others))
    return -np.mean(np.log(distances))


def test_koleo_equals_an_explicit_search_for_the_nearest_neighbour():
    embeddings = scores(9, 5)
    assert float(koleo(torch.from_numpy(embeddings))) == pytest.approx(koleo_reference(embeddings), rel=1e-4)


def test_koleo_of_one_scan_is_zero():
    alone = torch.from_numpy(scores(1, 5)).requires_grad_()
    koleo(alone).backward()
    assert float(koleo(alone).detach()) == 0
    assert not alone.grad.any()


def test_koleo_of_identical_embeddings_is_finite_and_so_is_its_gradient():
    same = torch.from_numpy(scores(1, 5)).repeat(4, 1).requires_grad_()
    loss = koleo(same)
    loss.backward()
    assert loss.isfinite()
    assert same.grad.isfinite().all()


def test_sinkhorn_knopp_over_two_ranks_equals_one_process(gloo_pool):
    parts = [scores(6, 10), scores(3, 10, seed=1)]
    together = np.concatenate(gloo_pool.run(shared_sinkhorn, parts, 0.04))
    alone = sinkhorn_knopp(torch.from_numpy(np.concatenate(parts)), 0.04, 3)
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-7)


def test_sinkhorn_knopp_when_one_rank_has_no_rows(gloo_pool):
    parts = [scores(6, 10), scores(0, 10)]
    together = gloo_pool.run(shared_sinkhorn, parts, 0.04)
    np.testing.assert_allclose(together[0], sinkhorn_knopp(torch.from_numpy(parts[0]), 0.04, 3), rtol=1e-5, atol=1e-7)
    assert together[1].shape == (0, 10)


def test_updated_center_over_two_ranks_equals_one_process(gloo_pool):
    center, parts = scores(8), [scores(6, 8, seed=1), scores(3, 8, seed=2)]
    together = gloo_pool.run(shared_center, center, parts)
    alone = updated_center(torch.from_numpy(center), torch.from_numpy(np.concatenate(parts)), 0.9)
    for found in together:
        np.testing.assert_allclose(found, alone, rtol=1e-5, atol=1e-7)
