"""Constant schedules: what a run does in its first steps does not depend on how long it is."""

from scanlore.training.metrics import read_rows
from tiny_pretraining import tiny_settings, tiny_train

CONSTANT = [
    "optim.schedule=constant",
    "optim.warmup_steps=2",
    "optim.weight_decay=[0.04, 0.04]",
    "method.momentum=[0.9, 0.9]",
    "method.teacher_temp_warmup_steps=3",
    "method.freeze_last_layer_steps=1",
]


def losses(corpus, out, steps, overrides):
    tiny_train(corpus, tiny_settings(*overrides, f"training.steps={steps}"), out)
    return [row["loss"] for row in read_rows(out / "metrics.jsonl")]


def test_a_longer_run_has_the_same_first_steps(tiny_corpus, tmp_path):
    short, long = (losses(tiny_corpus, tmp_path / str(steps), steps, CONSTANT) for steps in (4, 6))
    assert long[:4] == short


def test_a_longer_run_with_falling_schedules_has_not(tiny_corpus, tmp_path):
    short, long = (losses(tiny_corpus, tmp_path / str(steps), steps, []) for steps in (4, 6))
    assert long[:4] != short
