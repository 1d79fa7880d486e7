import pytest
import torch

from scanlore.training.planner.ledger import Ledger
from scanlore.training.planner.rates import Rates
from scanlore.training.planner.step import Fakes

CPU = torch.device("cpu")


def test_live_and_peak_follow_storages_not_views():
    with Ledger(CPU) as ledger:
        first = torch.empty(256)
        second = first.view(16, 16)[1:]
        third = torch.empty(64)
        del third
    assert (ledger.live, ledger.peak) == (1024, 1280)
    del first, second
    assert ledger.live == 0


def test_restart_keeps_what_is_live():
    with Ledger(CPU) as ledger:
        kept = torch.empty(256)
        torch.empty(256)
        ledger.restart()
    assert ledger.peak == kept.nbytes


def test_fakes_need_no_memory():
    with Fakes(), Ledger(CPU) as ledger:
        assert torch.empty(1 << 40).sum().item() == 0.0
    assert ledger.peak >= 4 << 40


def test_a_matrix_product_counts_two_flops_a_multiply_and_add():
    with Ledger(CPU) as ledger:
        torch.empty(2, 3) @ torch.empty(3, 5)
    assert ledger.work.flops == 2 * 2 * 3 * 5


def test_seconds_are_the_longer_of_computing_and_moving():
    with Fakes(), Ledger(CPU, Rates(flops=60.0, bandwidth=1e9)) as ledger:
        left, right = torch.empty(2, 3), torch.empty(3, 5)
        ledger.restart()
        left @ right
    assert ledger.work.seconds == pytest.approx(1.0)


def test_convolutions_of_a_cpu_need_copies_of_what_they_read_and_write():
    layer = torch.nn.Conv3d(1, 1, 1, bias=False)
    values = torch.empty(1, 1, 4, 4, 4)
    with Ledger(CPU) as ledger:
        layer(values)
    assert ledger.peak == 256 + 256 + 256 + 4
