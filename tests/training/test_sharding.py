import multiprocessing

import pytest
import torch

from ranks import fall_silent, save_again, small_run, stop_one
from scanlore.modelfolder.checkpoint_reader import read_checkpoint, read_numbers
from scanlore.registry import BACKBONES, BackboneEntry
from scanlore.training.checkpoint import checkpoint_path, checkpoint_steps
from scanlore.training.metrics import read_rows
from scanlore.training.parallel import World
from scanlore.training.sharding import without_missing_kernels
from scanlore.training.step import Trainer
from tiny_pretraining import loop_plan, tiny_method, tiny_settings

STEPS = ["training.steps=4"]
FSDP = "parallel.sharding=fsdp"
RECOMPUTED = "parallel.activation_checkpointing=full"
PATIENCE = 120


@pytest.fixture(autouse=True)
def small_vit(monkeypatch):
    monkeypatch.setitem(BACKBONES, "vit-tiny", BackboneEntry("vit", 96, 3, 3))


def everything(folder, *overrides):
    """All tensors of a checkpoint: of the method, the optimiser and the anchor."""
    settings = tiny_settings(*overrides)
    world = World(0, 1, torch.device("cpu"))
    trainer = Trainer(tiny_method(settings), loop_plan(settings), world, lambda batch: batch)
    trainer.restore(folder)
    return trainer.tensors()


def largest_difference(first, second):
    assert first.keys() == second.keys()
    return max(float((first[name] - second[name]).abs().max()) for name in first)


@pytest.mark.parametrize(
    "overrides",
    [
        ["backbone.drop_path=0.3"],
        ["method.separate_head=false", "method.centering=softmax", "start.anchor=0.5"],
        ["training.accumulate=2", RECOMPUTED],
    ],
)
def test_sharded_equals_replicated(gloo_pool, tmp_path, overrides):
    gloo_pool.run(small_run, tmp_path / "plain", [*STEPS, *overrides])
    gloo_pool.run(small_run, tmp_path / "sharded", [*STEPS, *overrides, FSDP])
    states = [everything(checkpoint_path(tmp_path / name, 4), *overrides) for name in ("plain", "sharded")]
    assert largest_difference(*states) < 1e-5
    rows = [read_rows(tmp_path / name / "metrics.jsonl") for name in ("plain", "sharded")]
    assert [row.keys() for row in rows[0]] == [row.keys() for row in rows[1]]
    for plain, sharded in zip(*rows, strict=True):
        assert list(sharded.values()) == pytest.approx(list(plain.values()), rel=1e-4)
    assert "norm" in rows[1][-1]  # the look saw the whole network


@pytest.mark.parametrize("sharded", [[], [FSDP]])
def test_two_processes_save_and_one_reads_and_back(gloo_pool, tmp_path, sharded):
    gloo_pool.run(small_run, tmp_path / "two", [*STEPS, *sharded])
    source = checkpoint_path(tmp_path / "two", 4)
    save_again(0, source, tmp_path / "one", [], size=1)
    gloo_pool.run(save_again, checkpoint_path(tmp_path / "one", 1), tmp_path / "again", sharded)
    first, *others = (
        everything(path) for path in (source, *(checkpoint_path(tmp_path / n, 1) for n in ("one", "again")))
    )
    assert any(name.startswith("optimizer.exp_avg_sq.") for name in first)
    assert all(largest_difference(first, other) == 0 for other in others)
    assert read_numbers(checkpoint_path(tmp_path / "again", 1)) == read_numbers(source)


def test_a_sharded_run_that_is_stopped_goes_on_to_the_same_end(gloo_pool, tmp_path):
    overrides = [*STEPS, FSDP]
    gloo_pool.run(small_run, tmp_path / "whole", overrides)
    ends = gloo_pool.run(stop_one, tmp_path / "parts", overrides)
    assert ends == [(0, 1, "SIGUSR1")] * 2  # both, although one was asked
    assert gloo_pool.run(small_run, tmp_path / "parts", overrides) == [(1, 4, None)] * 2
    states = [read_checkpoint(checkpoint_path(tmp_path / name, 4)) for name in ("whole", "parts")]
    assert largest_difference(*states) == 0
    assert read_rows(tmp_path / "whole" / "metrics.jsonl") == read_rows(tmp_path / "parts" / "metrics.jsonl")


@pytest.mark.slow
def test_a_killed_process_ends_the_other_with_one_line(tmp_path):
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    processes = [
        context.Process(target=fall_silent, args=(rank, f"file://{tmp_path}/meeting", tmp_path / "run", theirs))
        for rank in range(2)
    ]
    for process in processes:
        process.start()
    assert ours.poll(PATIENCE)
    message = ours.recv()
    assert message.startswith("another process of this run has ended (")
    assert "\n" not in message
    for process in processes:
        process.join(PATIENCE)
    assert [process.exitcode for process in processes] == [0, -9]
    assert checkpoint_steps(tmp_path / "run") == [3]
    assert everything(checkpoint_path(tmp_path / "run", 3))


def test_sgd_on_shards_does_without_its_fused_kernel():
    optimizers = [
        kind([torch.nn.Parameter(torch.zeros(1))], fused=True) for kind in (torch.optim.SGD, torch.optim.AdamW)
    ]
    for optimizer in optimizers:
        without_missing_kernels(optimizer)
    assert [optimizer.param_groups[0]["fused"] for optimizer in optimizers] == [False, True]
