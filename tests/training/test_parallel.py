import pytest
import torch
from torch import nn

from ranks import exchange, pretrain_together, refused_together, train_together
from scanlore.errors import ConfigError, ScanloreError
from scanlore.training.metrics import read_rows
from scanlore.training.parallel import (
    World,
    accumulating,
    all_rows,
    default_workers,
    from_main,
    gathered,
    open_world,
    replicate,
    telling_lost_processes,
)
from tiny_pretraining import tiny_settings, tiny_train

CPU = torch.device("cpu")


def test_alone():
    with open_world("cpu") as world:
        assert world == World(0, 1, CPU)
        assert world.is_main


def test_one_process_gets_the_module_itself():
    module = nn.Linear(1, 1)
    assert replicate(module, World(0, 1, CPU)) is module
    with accumulating(module, is_last=False):
        assert module(torch.ones(1)).requires_grad


LAUNCH = {"RANK": "0", "WORLD_SIZE": "8", "LOCAL_RANK": "0", "MASTER_ADDR": "here", "MASTER_PORT": "1"}


@pytest.mark.parametrize(("local", "wanted"), [("1000", 1), ("8", 3), ("2", 15), ("1", 16)])
def test_workers_are_a_share_of_the_cores(monkeypatch, local, wanted):
    for name, value in (LAUNCH | {"LOCAL_WORLD_SIZE": local}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(32))
    assert default_workers(World(0, 8, CPU)) == wanted


def test_a_half_set_environment_is_refused(monkeypatch):
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(ConfigError, match="half of what torchrun sets is missing"), open_world("cpu"):
        pass


@pytest.mark.parametrize("text", ["[gloo/transport/tcp/pair.cc:553] Connection closed by peer", "NCCL error"])
def test_a_broken_connection_is_told_in_one_line(text):
    ended = pytest.raises(ScanloreError, match="another process of this run has ended")
    with ended, telling_lost_processes(World(0, 2, CPU)):
        raise RuntimeError(text)


@pytest.mark.parametrize(("size", "text"), [(1, "NCCL error"), (2, "size mismatch")])
def test_other_errors_stay_what_they_are(size, text):
    with pytest.raises(RuntimeError, match=text), telling_lost_processes(World(0, size, CPU)):
        raise RuntimeError(text)


def test_one_process_exchanges_with_itself():
    world = World(0, 1, CPU)
    assert (from_main(world, 3), gathered(world, 3), all_rows(torch.ones(2), world).tolist()) == (3, [3], [[1, 1]])


def test_ranks_exchange(gloo_pool):
    _, other = gloo_pool.run(exchange)
    assert other == ("of rank 0", ["of rank 0", "of rank 1"], [[0.0, 1.0], [1.0, 2.0]])


@pytest.mark.parametrize("overrides", [[], ["training.accumulate=2", "views.masks.share=0.25"]])
def test_two_ranks_end_with_equal_weights(gloo_pool, tiny_corpus, tmp_path, overrides):
    first, second = gloo_pool.run(train_together, tiny_corpus, tmp_path, ["training.steps=3", *overrides])
    assert first["weights"] == second["weights"]
    assert [row["step"] for row in first["rows"]] == [1, 2, 3]
    assert all(0 < row["loss"] < 20 for row in first["rows"])


def test_two_ranks_do_the_step_of_one_process(gloo_pool, tiny_corpus, tmp_path):
    # Without masks and KoLeo, which belong to a rank, the loss is a mean over scans and the targets are shared
    same = ["views.masks.share=0", "method.koleo_weight=0", "training.steps=2", "optim.warmup=0"]
    tiny_train(tiny_corpus, tiny_settings(*same), tmp_path / "one")
    gloo_pool.run(train_together, tiny_corpus, tmp_path / "two", same)
    one, two = (read_rows(tmp_path / name / "metrics.jsonl") for name in ("one", "two"))
    for key in ("grad_norm_backbone", "grad_norm_dino_head"):
        assert [row[key] for row in two] == pytest.approx([row[key] for row in one], rel=1e-4)


def test_the_verb_on_two_ranks_finds_the_same_state_on_both(gloo_pool, tiny_corpus, tiny_recipe, tmp_path):
    for state in ("new", "finished"):
        found = gloo_pool.run(pretrain_together, tiny_corpus, tiny_recipe, tmp_path / "run", ["training.steps=2"])
        assert found == [state, state]


def test_both_ranks_refuse(gloo_pool, tiny_corpus, tiny_recipe, tmp_path):
    found = gloo_pool.run(refused_together, tiny_corpus, tiny_recipe, tmp_path / "run", ["training.batch_size=3"])
    assert all("training.batch_size 3 does not divide over 2 processes" in text for text in found)
    assert not (tmp_path / "run").exists()
