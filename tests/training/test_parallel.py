import pytest
import torch
from torch import nn

from ranks import pretrain_together, refused_together, train_together
from scanlore.training.metrics import read_rows
from scanlore.training.parallel import World, accumulating, default_workers, open_world, replicate
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
        pass


def test_there_is_always_a_loader_worker(monkeypatch):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1000")
    assert default_workers(World(0, 1000, CPU)) == 1


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
