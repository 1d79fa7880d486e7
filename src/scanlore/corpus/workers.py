"""Preparing many sources in other processes, or on a Dask cluster, and handing the results over in order.

A file that brings its reader down, or holds it for ever, is tried once more on its own and then marked, so that neither
ends a build.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scanlore.corpus.prepare import Given, Prepared, failed, prepare
from scanlore.errors import ConfigError, DataError, MissingDependencyError
from scanlore.memory import keep_freed_memory
from scanlore.scans.source import Source

STALLED = 1800
"""Seconds after which the reader of one source is given up."""

CRASHED = "reader crashed: the process that read it died or stood still, for damage in the file or for want of memory"


def in_this_process(todo: list[Given]) -> Generator[Prepared]:
    """Yield what is prepared here, one after the other."""
    keep_freed_memory()
    yield from map(prepare, todo)


def in_processes(todo: list[Given], num_workers: int) -> Generator[Prepared]:
    """Yield what `num_workers` processes prepare, in the order of `todo`, with few scans in flight.

    Raises:
        DataError: Processes cannot be started.
    """
    _check_start()
    rest = deque(todo)
    while rest:
        done = 0
        try:
            with _pool(num_workers) as pool:
                for prepared in _in_order(pool, _watched, list(rest), num_workers + 1):
                    done += 1
                    yield prepared
            return
        except (ConnectionError, EOFError):
            fix = "run the same command again; what is finished is kept"
            raise DataError("the processes that read scans cannot be started, or were ended", fix=fix) from None
        except BrokenProcessPool:
            for _ in range(done):
                rest.popleft()
            # One of those in flight is to blame; each gets a process of its own
            for _ in range(min(len(rest), num_workers + 1)):
                yield _alone(rest.popleft())


def on_cluster(todo: list[Given], address: str) -> Generator[Prepared]:
    """Yield what the workers of a Dask cluster prepare, in the order of `todo`.

    The files must be found under the same paths on every worker. Work of a worker that dies is given to another one.

    Args:
        todo: At least one source.
        address: Of the scheduler, such as `tcp://host:8786`, or the path of a scheduler file.

    Raises:
        ConfigError: There is no such scheduler, or it has no workers.
        MissingDependencyError: `distributed` is not installed.
    """
    with _client(address) as client:
        from distributed import KilledWorker

        num_threads = _num_threads(client, address)
        blind = [name for name, sees in client.run(_sees, todo[0].source).items() if not sees]
        if blind:
            what = f"{len(blind)} of the cluster's workers cannot see the scans"
            raise ConfigError(what, where=blind[0], fix="mount the scans under the same path on every worker")
        yield from _in_order(client.get_executor(pure=False), prepare, todo, 2 * num_threads, KilledWorker)


def check_cluster(address: str) -> None:
    """Refuse a cluster that cannot work, before anything is made.

    Raises:
        ConfigError: There is no such scheduler, or it has no workers.
        MissingDependencyError: `distributed` is not installed.
    """
    with _client(address) as client:
        _num_threads(client, address)


def _num_threads(client: Any, address: str) -> int:
    num_threads = sum(client.nthreads().values())
    if not num_threads:
        raise ConfigError("the Dask cluster has no workers", where=address, fix="start workers, then run again")
    return int(num_threads)


def _sees(source: Source) -> bool:
    return (source.archive or source.files[0]).exists()


@contextmanager
def _client(address: str) -> Iterator[Any]:
    try:
        from distributed import Client
    except ImportError:
        fix = "pip install 'scanlore[cluster]'"
        raise MissingDependencyError("--scheduler needs dask.distributed", fix=fix) from None
    is_file = Path(address).is_file()
    try:
        client = Client(scheduler_file=address, timeout=10) if is_file else Client(address, timeout=10)
    except (OSError, ValueError) as error:
        fix = "the address `dask scheduler` prints, such as tcp://host:8786"
        raise ConfigError("no Dask scheduler answers", where=address, fix=fix) from error
    with client:
        yield client


def _pool(num_workers: int) -> ProcessPoolExecutor:
    context = multiprocessing.get_context("forkserver")
    return ProcessPoolExecutor(num_workers, mp_context=context, initializer=keep_freed_memory)


def _check_start() -> None:
    """Tell a process that cannot start, for reasons of its own, from a file that brings it down."""
    try:
        with _pool(1) as pool:
            pool.submit(_nothing).result()
    except (BrokenProcessPool, OSError, EOFError):
        fix = "in a script, keep the call below `if __name__ == '__main__':`"
        raise DataError("the processes that read scans cannot be started", fix=fix) from None


def _nothing() -> None:
    """Do nothing, in another process."""


def _alone(one: Given) -> Prepared:
    try:
        with _pool(1) as pool:
            return pool.submit(_watched, one).result()
    except BrokenProcessPool:
        return failed(one, CRASHED)


def _watched(one: Given) -> Prepared:
    """Prepare under an alarm: the default handler ends the process even inside a library's own loop."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(STALLED)
    try:
        return prepare(one)
    finally:
        signal.alarm(0)


def _in_order(
    pool: Executor,
    work: Callable[[Given], Prepared],
    todo: list[Given],
    window: int,
    killed: tuple[type[Exception], ...] | type[Exception] = (),
) -> Generator[Prepared]:
    """Yield results in order, `window` sources in flight; what `killed` its worker too often has failed."""
    flying: deque[tuple[Given, Future[Prepared]]] = deque()
    waiting = iter(todo)
    try:
        while True:
            while len(flying) < window and (following := next(waiting, None)) is not None:
                flying.append((following, pool.submit(work, following)))
            if not flying:
                return
            one, future = flying[0]
            try:
                prepared = future.result()
            except killed:
                prepared = failed(one, CRASHED)
            flying.popleft()
            yield prepared
    finally:
        for _, future in flying:
            future.cancel()
