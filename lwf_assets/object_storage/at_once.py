"""Several transfers at once. When one fails, or the program is interrupted, the others stop waiting for a store that is
away, so that all end together."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

AT_ONCE = 8
"""Objects that are read or written at the same time."""


class GivenUpError(Exception):
    """Another transfer of those that belong together has failed."""


T = TypeVar("T")
R = TypeVar("R")

_of_thread = threading.local()


def each_at_once(act: Callable[[T], R], things: Iterable[T]) -> list[R]:
    """What `act` gives for each of `things`, several at once. Of several errors, one that is a cause is raised."""
    coming: list[Future[R]] = []
    try:
        with together(AT_ONCE) as pool:
            coming += [pool.submit(act, thing) for thing in things]
            return [future.result() for future in coming]
    except GivenUpError:
        errors = [future.exception() for future in coming if not future.cancelled()]
        raise next((error for error in errors if not isinstance(error, GivenUpError | None)), GivenUpError()) from None


@contextmanager
def together(threads: int) -> Iterator[ThreadPoolExecutor]:
    """Threads that end with the block. What it raises ends the waiting of all that belong together, those that this
    thread is one of included."""
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


def wait(seconds: float) -> bool:
    """Wait; returns whether another transfer has failed meanwhile."""
    return _failed().wait(seconds)


def _failed() -> threading.Event:
    """That of the transfers that this thread belongs to, or a new one."""
    found = getattr(_of_thread, "failed", None)
    return found if isinstance(found, threading.Event) else threading.Event()
