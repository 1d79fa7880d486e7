import pytest
import torch

from scanlore.errors import ConfigError
from scanlore.training.planner import check_fits, estimate, fit, memory_limit
from tiny_pretraining import tiny_settings

CPU = torch.device("cpu")


def settings_of(batch_size, accumulate=1):
    return tiny_settings(f"training.batch_size={batch_size}", f"training.accumulate={accumulate}")


def test_the_fewest_passes_that_fit():
    limit = estimate(settings_of(12, accumulate=3), CPU).peak
    assert fit(settings_of(12), CPU, limit=limit) == (4, 3)


def test_one_pass_where_all_fits():
    assert fit(settings_of(12), CPU, limit=1 << 60) == (12, 1)
    assert fit(settings_of(12), CPU, world_size=2, limit=1 << 60) == (6, 1)


def test_what_cannot_fit_is_refused_with_what_to_change():
    with pytest.raises(ConfigError, match=r"1 scan a pass needs about .* GB") as refused:
        fit(settings_of(4), CPU, limit=1000)
    assert "smaller backbone" in str(refused.value)


def test_a_pass_that_is_too_large_is_told_to_be_divided():
    settings = settings_of(4)
    with pytest.raises(ConfigError, match="accumulate=auto"):
        check_fits(settings, estimate(settings, CPU), 1000)


def test_a_run_that_fits_passes():
    settings = settings_of(4)
    check_fits(settings, estimate(settings, CPU), 1 << 60)


def test_the_limit_is_less_than_the_memory_of_this_machine():
    assert 0 < memory_limit(CPU) < 1 << 50
