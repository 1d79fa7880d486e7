"""Numbered batches, made by worker processes ahead of their use; the same for batches of every kind.

Nothing is kept from one batch to the next, so a run is resumed by asking for the next number, and the number of
workers changes nothing.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from multiprocessing import forkserver
from typing import Any, Generic, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from scanlore.errors import DataError, ScanloreError

P = TypeVar("P")
B = TypeVar("B")
GRACE = 60.0
"""Seconds a worker goes on after it was told to end."""


class NumberedBatches(Dataset[Any], Generic[P, B]):
    """The batches of a plan by number. An error a user can mend is returned, not raised: workers garble tracebacks.

    Args:
        plan: What the batches hold; picklable.
        make: Makes the batch of a number; a function of a module.
    """

    def __init__(self, plan: P, make: Callable[[P, int], B]) -> None:
        self.plan, self.make = plan, make

    def __getitem__(self, number: int) -> B | ScanloreError:
        """Make one batch."""
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # as in a worker, so that sums are taken in the same order
        try:
            return self.make(self.plan, number)
        except ScanloreError as error:
            return error
        finally:
            torch.set_num_threads(threads)


def stream(plan: P, make: Callable[[P, int], B], start: int, stop: int, num_workers: int) -> Iterator[B]:
    """Yield the batches `start` to `stop - 1` of a plan in order.

    Args:
        plan: What they hold; picklable.
        make: Makes the batch of a number; a function of a module.
        start: First batch.
        stop: Behind the last.
        num_workers: Processes that read ahead; 0 reads in this one.

    Raises:
        ScanloreError: A batch could not be made.
    """
    context = multiprocessing.get_context("forkserver") if num_workers else None
    if context:
        context.set_forkserver_preload([make.__module__])  # torch is imported once, not by every worker
        _start_server()
    loader = DataLoader(
        NumberedBatches(plan, make),
        batch_size=None,
        sampler=range(start, stop),
        num_workers=num_workers,
        multiprocessing_context=context,
        prefetch_factor=2 if num_workers else None,
        collate_fn=_unchanged,
        worker_init_fn=_prepare_worker,
    )
    for batch in _alive(loader):
        if isinstance(batch, ScanloreError):
            raise batch
        yield batch


def _alive(loader: DataLoader[Any]) -> Iterator[Any]:
    """Yield the items of a loader; the end of a worker is told in words.

    Raises:
        DataError: A worker ended.
    """
    try:
        yield from loader
    except RuntimeError as error:
        if "DataLoader worker" not in str(error) or "exited" not in str(error):
            raise
        what = "a process that reads ahead ended: memory ran out, or a script was started again in it"
        fix = 'keep the calls of a script below `if __name__ == "__main__":`, or set training.num_workers=0'
        raise DataError(what, fix=fix) from None


def _start_server() -> None:
    """Start the process that forks workers so that it, and they, ignore what asks a whole job to stop.

    Slurm sends a signal to all processes of a job, and the training needs its workers until its step is done.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    asking = (signal.SIGTERM, signal.SIGUSR1)
    handlers = {number: signal.signal(number, signal.SIG_IGN) for number in asking}
    try:
        forkserver.ensure_running()
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _prepare_worker(_: int) -> None:
    """Make a worker end when the training process is killed: its parent is the fork server, which would stay.

    It also ends some time after it was told to, as the training process does at its own end to workers that hang.
    """
    threading.Thread(target=_wait_and_exit, daemon=True).start()
    signal.signal(signal.SIGTERM, _exit_later)


def _exit_later(number: int, frame: Any) -> None:
    del number, frame
    timer = threading.Timer(GRACE, os._exit, (1,))
    timer.daemon = True
    timer.start()


def _wait_and_exit() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _unchanged(batch: Any) -> Any:
    return batch
