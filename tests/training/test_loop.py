import logging
import math
import os
import signal
from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from scanlore.errors import ScanloreError
from scanlore.modelfolder.checkpoint_reader import read_checkpoint, read_numbers
from scanlore.registry import BACKBONES, BackboneEntry
from scanlore.training import loop as loop_module
from scanlore.training import step as step_module
from scanlore.training.checkpoint import checkpoint_path, checkpoint_steps
from scanlore.training.health import alarm, health
from scanlore.training.loop import Callbacks, TrainEnd, train
from scanlore.training.metrics import read_rows
from scanlore.training.parallel import World
from scanlore.views.loader import batches, make_batch, to_device
from tiny_pretraining import loop_plan, on_cpu, tiny_method, tiny_plan, tiny_settings, tiny_train

ALONE = World(0, 1, torch.device("cpu"))


@pytest.fixture(autouse=True)
def small_vit(monkeypatch):
    monkeypatch.setitem(BACKBONES, "vit-tiny", BackboneEntry("vit", 96, 3, 3))


def losses(out):
    return [row["loss"] for row in read_rows(out / "metrics.jsonl")]


def train_on(plan, settings, out, spoil=lambda batch: None, look=None):
    """Train with every batch passed through `spoil` first; returns the weights before and after."""
    out.mkdir(exist_ok=True)

    def spoiled(first, stop):
        for batch in batches(plan, first, stop, 0):
            spoil(batch)
            yield batch

    method = tiny_method(settings)
    before = {name: tensor.clone() for name, tensor in method.state_dict().items()}
    train(method, loop_plan(settings), out, ALONE, Callbacks(spoiled, on_cpu, look, lambda values, timings: None))
    return before, method.state_dict()


def same(before, after):
    return all(torch.equal(before[name], after[name]) for name in before)


def test_one_batch_is_learnt(tiny_corpus, tmp_path):
    overrides = ["steps=40", "batch_size=8", "checkpoint_every=40"]
    settings = tiny_settings(
        *(f"training.{override}" for override in overrides),
        "views.local_crops.number=0",
        "views.masks.share=0",
        "backbone.layer_scale=1.0",
        "method.head.prototypes=16",
        "method.teacher_temp=[0.04, 0.04]",
        "method.koleo_weight=1",
    )
    one = make_batch(tiny_plan(tiny_corpus, settings), 0)
    method = tiny_method(settings)
    repeated = lambda first, stop: (deepcopy(one) for _ in range(first, stop))  # noqa: E731
    train(method, loop_plan(settings), tmp_path, ALONE, Callbacks(repeated, on_cpu, None, lambda *_: None))
    found = [row["image_global"] for row in read_rows(tmp_path / "metrics.jsonl")]
    assert found[-1] < 0.6 * found[0]
    assert found[-1] < 0.9 * math.log(16)  # where a collapsed network would be
    pixels = to_device(one, ALONE.device, clip=True).groups["global"].pixels[:8]
    assert alarm(health(method.exported().forward_features(pixels).embeddings[-1].detach()), 16) is None


def test_the_loss_is_the_sum_of_its_terms(tiny_corpus, tmp_path):
    tiny_train(tiny_corpus, tiny_settings("training.steps=2"), tmp_path)
    for row in read_rows(tmp_path / "metrics.jsonl"):
        terms = sum(row[name] for name in ("image_global", "image_local", "patch", "koleo"))
        assert row["loss"] == pytest.approx(terms)
        assert {"lr", "weight_decay", "grad_norm_backbone", "grad_norm_ibot_head", "teacher_entropy"} <= row.keys()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_both_precisions_train_float32_weights(tiny_corpus, tmp_path, precision):
    method = tiny_train(tiny_corpus, tiny_settings(f"training.precision={precision}", "training.steps=2"), tmp_path)
    assert all(math.isfinite(loss) for loss in losses(tmp_path))
    assert all(tensor.dtype == torch.float32 for tensor in method.state_dict().values())


def test_bf16_is_close_to_fp32_and_not_equal(tiny_corpus, tmp_path):
    for precision in ("fp32", "bf16"):
        settings = tiny_settings(f"training.precision={precision}", "training.steps=1", "method.koleo_weight=0")
        tiny_train(tiny_corpus, settings, tmp_path / precision)
    full, half = losses(tmp_path / "fp32"), losses(tmp_path / "bf16")
    assert half == pytest.approx(full, rel=0.05)
    assert half != full


def test_accumulated_passes_equal_one_pass(tiny_corpus, tmp_path):
    # Targets, KoLeo and masks look at a whole pass; with a fixed centre and without the others the loss is a mean
    overrides = ["centering=softmax", "center_momentum=1", "koleo_weight=0"]
    overrides = [*(f"method.{override}" for override in overrides), "views.masks.share=0", "training.steps=1"]
    for passes in (1, 2, 4):
        settings = tiny_settings(*overrides, f"training.accumulate={passes}")
        tiny_train(tiny_corpus, settings, tmp_path / str(passes))
    rows = [read_rows(tmp_path / str(passes) / "metrics.jsonl")[0] for passes in (1, 2, 4)]
    for key in ("loss", "grad_norm_backbone", "grad_norm_dino_head"):
        assert [row[key] for row in rows] == pytest.approx([rows[0][key]] * 3, rel=1e-4)


def test_gradients_that_are_not_finite_change_nothing_and_end_the_run(tiny_corpus, tmp_path):
    settings = tiny_settings("training.max_bad_steps=3", "method.centering=softmax", "training.checkpoint_every=1")
    method = tiny_method(settings)
    before = {name: tensor.clone() for name, tensor in method.state_dict().items()}

    def spoiled(first, stop):
        for batch in batches(tiny_plan(tiny_corpus, settings), first, stop, 0):
            batch.groups["global"].pixels[:] = math.nan
            yield batch

    callbacks = Callbacks(spoiled, on_cpu, None, lambda values, timings: None)
    with pytest.raises(ScanloreError) as caught:
        train(method, loop_plan(settings), tmp_path, ALONE, callbacks)
    assert str(caught.value).startswith(
        "step 3: gradients were not finite for 3 steps in a row (lower the learning rate"
    )
    assert "\n" not in str(caught.value)
    assert same(before, method.state_dict())
    assert [row["skipped"] for row in read_rows(tmp_path / "metrics.jsonl")] == [True, True]
    assert same(before, read_checkpoint(checkpoint_path(tmp_path, 2)))


def test_a_run_goes_on_after_one_bad_step(tiny_corpus, tmp_path):
    settings = tiny_settings("training.max_bad_steps=2", "training.steps=4", "method.centering=softmax")

    def spoil(batch):
        if batch.number % 2 == 0:
            batch.groups["global"].pixels[0] = math.inf

    before, after = train_on(tiny_plan(tiny_corpus, settings), settings, tmp_path, spoil)
    assert [row.get("skipped", False) for row in read_rows(tmp_path / "metrics.jsonl")] == [True, False, True, False]
    assert not same(before, after)
    assert all(tensor.isfinite().all() for tensor in after.values())


def test_bad_steps_are_counted_across_a_resume(tiny_corpus, tmp_path):
    settings = tiny_settings("training.max_bad_steps=3", "training.checkpoint_every=2")

    def spoil(batch):
        if batch.number == 2:
            raise KeyboardInterrupt
        batch.groups["global"].pixels[:] = math.nan

    plan = tiny_plan(tiny_corpus, settings)
    with pytest.raises(KeyboardInterrupt):
        train_on(plan, settings, tmp_path, spoil)
    assert read_numbers(checkpoint_path(tmp_path, 2))["num_bad"] == 2


def test_gradients_are_clipped_before_the_step(tiny_corpus, tmp_path, monkeypatch):
    settings = tiny_settings("optim.clip=0.001", "training.steps=1")
    found = {}
    original = step_module.clip_parts

    def clip(module, rules, limit):
        norms = original(module, rules, limit)
        for part in norms:
            gradients = [
                p.grad.flatten() for name, p in module.named_parameters() if name.startswith(f"student.{part}")
            ]
            found[part] = float(torch.cat(gradients).norm())
        return norms

    monkeypatch.setattr(step_module, "clip_parts", clip)
    tiny_train(tiny_corpus, settings, tmp_path)
    assert found == {part: pytest.approx(0.001, rel=1e-3) for part in ("backbone", "dino_head", "ibot_head")}
    row = read_rows(tmp_path / "metrics.jsonl")[0]
    assert all(row[f"grad_norm_{part}"] > 0.001 for part in found)


def test_looks_are_regular_and_at_the_end(tiny_corpus, tmp_path):
    settings = tiny_settings("training.steps=5", "health.every=2")
    train_on(tiny_plan(tiny_corpus, settings), settings, tmp_path, look=lambda method, network, values: {"looked": 1})
    assert [row.get("looked", 0) for row in read_rows(tmp_path / "metrics.jsonl")] == [0, 1, 0, 1, 1]


def test_checkpoints_are_regular_and_at_the_end(tiny_corpus, tmp_path):
    settings = tiny_settings("training.steps=5", "training.keep_checkpoints=9")
    tiny_train(tiny_corpus, settings, tmp_path)
    assert checkpoint_steps(tmp_path) == [2, 4, 5]


def test_the_teacher_follows_only_after_the_step(tiny_corpus, tmp_path):
    settings = tiny_settings("training.steps=1", "method.momentum=[0.5, 1.0]", "optim.warmup=0")
    before, after = train_on(tiny_plan(tiny_corpus, settings), settings, tmp_path)
    name = "backbone.blocks.0.attn.qkv.weight"
    student, teacher = after[f"student.{name}"], after[f"teacher.{name}"]
    assert not torch.equal(before[f"student.{name}"], student)
    torch.testing.assert_close(teacher, 0.5 * before[f"teacher.{name}"] + 0.5 * student)


@pytest.mark.parametrize("start", [1, 2, 3])
def test_an_interrupted_run_ends_like_one_that_was_not(tiny_corpus, tmp_path, start):
    settings = tiny_settings("backbone.drop_path=0.2")
    whole = tiny_train(tiny_corpus, settings, tmp_path / "whole").state_dict()

    def stop(batch):
        if batch.number == start:
            raise KeyboardInterrupt

    plan = tiny_plan(tiny_corpus, settings)
    with pytest.raises(KeyboardInterrupt):
        train_on(plan, settings, tmp_path / "parts", stop)
    torch.rand(start)  # no state of random generators may matter
    _, parts = train_on(plan, settings, tmp_path / "parts")
    assert same(whole, parts)
    assert losses(tmp_path / "whole") == losses(tmp_path / "parts")


def test_a_run_of_skipped_steps_alone_is_no_training(tiny_corpus, tmp_path):
    settings = tiny_settings("training.steps=2", "training.max_bad_steps=10")

    def spoiled(first, stop):
        for batch in batches(tiny_plan(tiny_corpus, settings), first, stop, 0):
            batch.groups["global"].pixels[:] = math.nan
            yield batch

    callbacks = Callbacks(spoiled, on_cpu, None, lambda values, timings: None)
    with pytest.raises(ScanloreError, match="nothing was trained"):
        train(tiny_method(settings), loop_plan(settings), tmp_path, ALONE, callbacks)


def run(tiny_corpus, settings, out, spoil=lambda batch: None, plan=None, **callbacks):
    """Train with other callbacks; returns how it ended and the weights."""
    out.mkdir(exist_ok=True)

    def spoiled(first, stop):
        for batch in batches(tiny_plan(tiny_corpus, settings), first, stop, 0):
            spoil(batch)
            yield batch

    method, look = tiny_method(settings), callbacks.pop("look", None)
    hooks = Callbacks(spoiled, on_cpu, look, lambda values, timings: None, **callbacks)
    end = train(method, replace(loop_plan(settings), **(plan or {})), out, ALONE, hooks)
    return end, method.state_dict()


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1"])
def test_a_signal_stops_behind_a_checkpoint_and_the_run_goes_on(tiny_corpus, tmp_path, name):
    settings = tiny_settings("training.steps=5", "training.checkpoint_every=4")

    def spoil(batch):
        if batch.number == 1:
            os.kill(os.getpid(), getattr(signal, name))

    end, _ = run(tiny_corpus, settings, tmp_path / "parts", spoil)
    assert end == TrainEnd(0, 2, name)
    assert checkpoint_steps(tmp_path / "parts") == [2]
    end, parts = run(tiny_corpus, settings, tmp_path / "parts")
    assert end == TrainEnd(2, 5, None)
    _, whole = run(tiny_corpus, settings, tmp_path / "whole")
    assert same(whole, parts)
    assert losses(tmp_path / "whole") == losses(tmp_path / "parts")


def test_a_request_with_the_last_step_ends_the_run_as_usual(tiny_corpus, tmp_path):
    spoil = lambda batch: os.kill(os.getpid(), signal.SIGTERM)  # noqa: E731
    end, _ = run(tiny_corpus, tiny_settings("training.steps=1"), tmp_path, spoil)
    assert end == TrainEnd(0, 1, None)


def test_the_last_steps_of_a_job_are_left(tiny_corpus, tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_END_TIME", "1")
    end, _ = run(tiny_corpus, tiny_settings(), tmp_path)
    assert end == TrainEnd(0, 1, "the job's time limit")


def test_a_look_before_the_first_step(tiny_corpus, tmp_path):
    settings = tiny_settings("training.steps=2", "health.every=2", "training.checkpoint_every=1")
    seen = []
    look = lambda method, network, values: seen.append(network is method.exported()) or {"looked": values["step"]}  # noqa: E731
    for _ in range(2):  # the second time nothing is left to do
        run(tiny_corpus, settings, tmp_path, look=look, plan={"look_first": True})
    rows = read_rows(tmp_path / "metrics.jsonl")
    assert [(row["step"], row.get("looked")) for row in rows] == [(0, 0), (1, None), (2, 2)]
    assert seen == [True, True]
    assert [row["step"] for row in read_rows(tmp_path / "timings.jsonl")] == [1, 2]


def test_a_run_cut_short_before_its_first_checkpoint_has_one_row_of_step_0(tiny_corpus, tmp_path):
    def stop(batch):
        if batch.number == 1:
            raise KeyboardInterrupt

    settings, looks = tiny_settings("training.steps=2"), {"look": lambda *_: {}, "plan": {"look_first": True}}
    with pytest.raises(KeyboardInterrupt):
        run(tiny_corpus, settings, tmp_path, stop, **looks)
    run(tiny_corpus, settings, tmp_path, **looks)
    assert [row["step"] for row in read_rows(tmp_path / "metrics.jsonl")] == [0, 1, 2]


def test_networks_are_exported_on_the_way_and_at_the_end(tiny_corpus, tmp_path):
    found = []

    def export(step, network, heads):
        found.append((step, {name.partition(".")[0] for name in heads}, float(network.norm.weight.sum())))

    settings = tiny_settings("training.steps=4", "optim.warmup=0")
    run(tiny_corpus, settings, tmp_path, export=export, plan={"export_at": (1, 3, 4)})
    assert [step for step, _, _ in found] == [1, 3, 4]
    assert all(heads == {"dino_head", "ibot_head"} for _, heads, _ in found)
    run(tiny_corpus, settings, tmp_path, export=export, plan={"export_at": (1, 3, 4)})
    assert found[3:] == found[2:3]  # a finished run hands out its network once more


def test_scans_are_blamed_for_a_skipped_step_alone(tiny_corpus, tmp_path, caplog):
    asked = []

    def spoil(batch):
        if batch.number == 2:
            batch.groups["global"].pixels[0] = math.inf

    def blame(batch):
        asked.append(batch.number)
        return "the first scan" if batch.groups["global"].pixels[0].isinf().any() else ""

    settings = tiny_settings("training.steps=3", "training.accumulate=2", "method.centering=softmax")
    with caplog.at_level(logging.WARNING, "scanlore"):
        run(tiny_corpus, settings, tmp_path, spoil, blame=blame)
    assert asked == [2, 3]
    assert "step 2: the first scan" in caplog.messages


def test_the_anchor_holds_the_backbone_and_survives_a_resume(tiny_corpus, tmp_path):
    settings = tiny_settings("training.steps=4", "start.anchor=100", "optim.warmup=0", "optim.lr=0.01")

    def stop(batch):
        if batch.number == 2:
            raise KeyboardInterrupt

    start = tiny_method(settings).state_dict()
    with pytest.raises(KeyboardInterrupt):
        run(tiny_corpus, settings, tmp_path / "parts", stop)
    _, parts = run(tiny_corpus, settings, tmp_path / "parts")
    _, whole = run(tiny_corpus, settings, tmp_path / "whole")
    _, free = run(tiny_corpus, tiny_settings("training.steps=4", "optim.warmup=0", "optim.lr=0.01"), tmp_path / "free")
    assert same(whole, parts)
    name = "student.backbone.blocks.0.attn.qkv.weight"
    moved = [float((state[name] - start[name]).norm()) for state in (whole, free)]
    assert 0 < moved[0] < 0.9 * moved[1]


def test_a_full_disk_ends_the_run_before_the_next_checkpoint(tiny_corpus, tmp_path, monkeypatch):
    def failing(*args):
        raise OSError(28, "No space left on device")

    def spoil(batch):
        if batch.number == 2:
            assert savers[0].pending.exception(timeout=60)

    savers = []
    original = loop_module.Saver
    monkeypatch.setattr(loop_module, "Saver", lambda *args: savers.append(original(*args)) or savers[0])
    monkeypatch.setattr(torch, "save", failing)
    with pytest.raises(OSError, match="No space left"):
        run(tiny_corpus, tiny_settings("training.checkpoint_every=2", "training.steps=9"), tmp_path, spoil)
    assert len(read_rows(tmp_path / "metrics.jsonl")) == 2
    assert checkpoint_steps(tmp_path) == []
