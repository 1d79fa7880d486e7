import os
import signal
import threading
import time

import pytest

from scanlore.training.signals import REASONS, stop_requests


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1"])
def test_a_signal_asks_to_stop_and_handlers_come_back(name):
    number = getattr(signal, name)
    before = signal.getsignal(number)
    with stop_requests(120) as requests:
        assert requests.code == 0
        os.kill(os.getpid(), number)
        assert REASONS[requests.code - 1] == name
    assert signal.getsignal(number) is before


def test_handlers_come_back_behind_an_error():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyError), stop_requests(120):
        raise KeyError
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(("left", "code"), [(100, len(REASONS)), (1000, 0)])
def test_the_end_of_the_job_asks_to_stop(monkeypatch, left, code):
    monkeypatch.setenv("SLURM_JOB_END_TIME", str(int(time.time()) + left))
    with stop_requests(120) as requests:
        assert requests.code == code


def test_nothing_is_heeded_where_nothing_is_asked(monkeypatch):
    monkeypatch.setenv("SLURM_JOB_END_TIME", "0")
    before = signal.getsignal(signal.SIGTERM)
    with stop_requests(None) as requests:
        assert signal.getsignal(signal.SIGTERM) is before
        assert requests.code == 0


def test_another_thread_changes_no_handler():
    found = []

    def enter():
        with stop_requests(120) as requests:
            found.append((signal.getsignal(signal.SIGTERM), requests.code))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert found == [(before, 0)]


@pytest.mark.parametrize(("size", "handler"), [("2", signal.SIG_IGN), ("1", signal.SIG_DFL)])
def test_one_of_several_processes_that_fails_may_finish_its_sentence(monkeypatch, size, handler):
    monkeypatch.setenv("WORLD_SIZE", size)
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with pytest.raises(RuntimeError), stop_requests(120):
            raise RuntimeError
        assert signal.getsignal(signal.SIGTERM) == handler
    finally:
        signal.signal(signal.SIGTERM, before)
