import pytest
import torch

from scanlore.training.planner import estimate
from scanlore.training.planner.step import build_trainer
from tiny_pretraining import tiny_settings

CPU = torch.device("cpu")


def test_fixed_parts_are_those_of_the_real_network():
    settings = tiny_settings()
    trainer, found = build_trainer(settings, CPU), estimate(settings, CPU)
    trained = sum(p.nbytes for p in trainer.module.parameters() if p.requires_grad)
    assert found.parameters == found.gradients == trained
    assert found.teacher >= trained  # the teacher is as large, beside its buffers
    assert 2 * trained <= found.optimizer <= 2 * trained + 4096


def test_activations_grow_with_the_batch_and_the_rest_does_not():
    small, large = (estimate(tiny_settings(f"training.batch_size={n}"), CPU) for n in (4, 16))
    assert large.activations > 3 * small.activations
    assert (large.parameters, large.optimizer) == (small.parameters, small.optimizer)


def test_recomputing_needs_less_memory_and_more_work():
    batch, recompute = "training.batch_size=16", "parallel.activation_checkpointing=full"
    plain, frugal = estimate(tiny_settings(batch), CPU), estimate(tiny_settings(batch, recompute), CPU)
    assert frugal.activations < plain.activations
    assert frugal.flops > plain.flops


def test_passes_do_the_same_work_in_less_memory():
    batch = "training.batch_size=16"
    whole, parts = estimate(tiny_settings(batch), CPU), estimate(tiny_settings(batch, "training.accumulate=4"), CPU)
    assert parts.flops == pytest.approx(whole.flops, rel=0.05)
    assert parts.peak < whole.peak
    assert (parts.scans_per_pass, parts.accumulate) == (4, 4)


def test_sharding_divides_what_is_fixed():
    settings = tiny_settings("parallel.sharding=fsdp")
    one, two = estimate(settings, CPU), estimate(settings, CPU, world_size=2)
    assert two.parameters == one.parameters // 2
    assert two.optimizer == one.optimizer // 2


def test_replicas_hold_gradients_twice():
    one, two = estimate(tiny_settings(), CPU), estimate(tiny_settings(), CPU, world_size=2)
    assert two.gradients == 2 * one.gradients


def test_a_checkpoint_holds_network_and_optimiser():
    found = estimate(tiny_settings(), CPU)
    assert found.checkpoint == pytest.approx(found.parameters + found.teacher + found.optimizer, rel=0.01)
    assert found.disk > found.checkpoint


def test_nothing_random_is_drawn_from_the_callers_state():
    before = torch.get_rng_state()
    estimate(tiny_settings(), CPU)
    assert torch.equal(before, torch.get_rng_state())
