"""Prepare the next items in a thread while the caller works on the present one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from scanlore.errors import ScanloreError

T = TypeVar("T")
R = TypeVar("R")


def read_ahead(prepare: Callable[[T], R], items: Iterable[T], window: int = 4) -> Iterator[R | ScanloreError]:
    """Yield `prepare(item)` in order, at most `window` results ahead; a user's error is yielded in its item's place.

    Args:
        prepare: Runs in one other thread.
        items: What to prepare.
        window: How many results may wait: the bound on memory.
    """
    remaining = iter(items)
    pending: deque[Future[R]] = deque()
    pool = ThreadPoolExecutor(max_workers=1)
    try:
        pending.extend(pool.submit(prepare, item) for item in islice(remaining, window))
        while pending:
            result = _result(pending.popleft())
            pending.extend(pool.submit(prepare, item) for item in islice(remaining, 1))
            yield result
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _result(future: Future[R]) -> R | ScanloreError:
    try:
        return future.result()
    except ScanloreError as error:
        return error
