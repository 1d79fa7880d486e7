import math
from copy import deepcopy

import pytest
import torch

from scanlore.errors import ScanloreError
from scanlore.registry import BACKBONES, BackboneEntry
from scanlore.training import loop as loop_module
from scanlore.training.checkpoint import checkpoint_steps, load_checkpoint
from scanlore.training.health import alarm, health
from scanlore.training.loop import Callbacks, train
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
    assert same(before, load_checkpoint(tmp_path, 2)["method"])


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
    assert load_checkpoint(tmp_path, 2)["num_bad"] == 2


def test_gradients_are_clipped_before_the_step(tiny_corpus, tmp_path, monkeypatch):
    settings = tiny_settings("optim.clip=0.001", "training.steps=1")
    found = {}
    original = loop_module.clip_parts

    def clip(module, rules, limit):
        norms = original(module, rules, limit)
        for part in norms:
            gradients = [
                p.grad.flatten() for name, p in module.named_parameters() if name.startswith(f"student.{part}")
            ]
            found[part] = float(torch.cat(gradients).norm())
        return norms

    monkeypatch.setattr(loop_module, "clip_parts", clip)
    tiny_train(tiny_corpus, settings, tmp_path)
    assert found == {part: pytest.approx(0.001, rel=1e-3) for part in ("backbone", "dino_head", "ibot_head")}
    row = read_rows(tmp_path / "metrics.jsonl")[0]
    assert all(row[f"grad_norm_{part}"] > 0.001 for part in found)


def test_looks_are_regular_and_at_the_end(tiny_corpus, tmp_path):
    settings = tiny_settings("training.steps=5", "health.every=2")
    train_on(tiny_plan(tiny_corpus, settings), settings, tmp_path, look=lambda method, values: {"looked": 1})
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
