import math

import pytest

from scanlore.methods.schedules import Progress, cosine, linear_then_constant, warmup_then_cosine

STEPS = 125_000  # of 3DINO


@pytest.mark.parametrize(("share", "value"), [(0, 0.992), (0.5, 0.996), (1, 1.0), (-1, 0.992), (2, 1.0)])
def test_cosine(share, value):
    assert cosine(0.992, 1.0, share) == pytest.approx(value)


def test_cosine_at_a_quarter():
    assert cosine(0.04, 0.4, 0.25) == pytest.approx(0.4 + 0.5 * (0.04 - 0.4) * (1 + math.cos(math.pi / 4)))


@pytest.mark.parametrize(("step", "temp"), [(0, 0.04), (18_750, 0.055), (37_500, 0.07), (37_501, 0.07), (STEPS, 0.07)])
def test_teacher_temperature_of_3dino(step, temp):
    assert linear_then_constant(0.04, 0.07, 0.3, step / STEPS) == pytest.approx(temp)


def test_no_warmup_starts_at_the_end_value():
    assert linear_then_constant(0.04, 0.07, 0.0, 0.0) == 0.07


@pytest.mark.parametrize(
    ("step", "lr"), [(0, 0.0), (6_250, 0.7071e-3), (12_500, 1.41421e-3), (68_750, 0.70761e-3), (STEPS, 1e-6)]
)
def test_learning_rate_of_3dino(step, lr):
    peak = 2e-3 * math.sqrt(512 / 1024)
    assert warmup_then_cosine(peak, 1e-6, 0.1, step / STEPS) == pytest.approx(lr, rel=1e-4)


def test_learning_rate_that_only_warms_up():
    assert warmup_then_cosine(1.0, 0.0, 1.0, 0.5) == 0.5
    assert warmup_then_cosine(1.0, 0.0, 1.0, 1.0) == pytest.approx(1.0)


def test_a_phase_is_a_share_of_the_run_or_a_number_of_steps():
    assert [Progress(step, 40).ramp(0.25) for step in (0, 5, 10, 40)] == [0, 0.5, 1, 1]
    assert [Progress(step, 40).ramp(0.25, 20) for step in (0, 5, 20, 40)] == [0, 0.25, 1, 1]
    assert Progress(0, 40).ramp(0.0) == Progress(0, 40).ramp(0.5, 0) == 1
