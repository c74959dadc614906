"""Several transfers at once. When one fails, or the program is interrupted, the others stop waiting for a store that is
away, so that all end together."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

AT_ONCE = 8
"""Objects that are read or written at the same time."""

T = TypeVar("T")
R = TypeVar("R")

_of_thread = threading.local()


def each_at_once(act: Callable[[T], R], things: Iterable[T]) -> list[R]:
    """What `act` gives for each of `things`, several at once."""
    with _pool(AT_ONCE) as pool:
        return list(pool.map(act, things))


def in_order(act: Callable[[T], R], things: Iterable[T], *, ahead: int) -> Iterator[R]:
    """The same, one by one in their order, while up to `ahead` of the next ones are on their way: so many are in memory
    at most."""
    with _pool(ahead) as pool:
        coming = deque[Future[R]]()
        for thing in things:
            coming.append(pool.submit(act, thing))
            if len(coming) > ahead:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()


def wait(seconds: float) -> bool:
    """Wait; returns whether another transfer has failed meanwhile."""
    return _failed().wait(seconds)


@contextmanager
def _pool(threads: int) -> Iterator[ThreadPoolExecutor]:
    failed = _failed()

    def begin() -> None:
        _of_thread.failed = failed

    pool = ThreadPoolExecutor(threads, initializer=begin)
    try:
        yield pool
    except BaseException:
        failed.set()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _failed() -> threading.Event:
    """That of the transfer that this one is a part of, or a new one."""
    found = getattr(_of_thread, "failed", None)
    return found if isinstance(found, threading.Event) else threading.Event()
