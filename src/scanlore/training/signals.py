"""Requests to stop: signals, and the end of a Slurm job."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

REASONS = ("SIGTERM", "SIGUSR1", "the guard", "the job's time limit")
GUARD = "the guard"


class StopRequests:
    """Whether this process was asked to stop.

    Args:
        deadline: Seconds since the epoch at which it stops by itself; `None` for never.
    """

    def __init__(self, deadline: float | None = None) -> None:
        self.deadline, self.received = deadline, 0

    @property
    def code(self) -> int:
        """Number of the reason, counted from 1; 0 while nothing asked."""
        if not self.received and self.deadline is not None and time.time() >= self.deadline:
            return len(REASONS)
        return self.received

    def ask(self, reason: str) -> None:
        """Ask for a stop.

        Args:
            reason: One of `REASONS`.
        """
        self.received = 1 + REASONS.index(reason)

    def note(self, number: int, frame: Any) -> None:
        """Remember a signal."""
        del frame
        self.ask(signal.Signals(number).name)


@contextlib.contextmanager
def stop_requests(margin: float | None) -> Iterator[StopRequests]:
    """Take SIGTERM and SIGUSR1 as requests to stop, and so the end of a Slurm job; old handlers come back behind it.

    Signals reach the main thread alone; elsewhere only the time counts.

    Args:
        margin: Seconds before the end of the job; `None` changes nothing.
    """
    if margin is None:
        yield StopRequests()
        return
    end = os.environ.get("SLURM_JOB_END_TIME", "")
    requests = StopRequests(float(end) - margin if end.isdecimal() else None)
    if threading.current_thread() is not threading.main_thread():
        yield requests
        return
    old = {number: signal.signal(number, requests.note) for number in (signal.SIGTERM, signal.SIGUSR1)}
    try:
        yield requests
    except BaseException:
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            # A launcher ends us as soon as another process has died: first say why, and leave the run folder in order
            old[signal.SIGTERM] = signal.SIG_IGN
        raise
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
