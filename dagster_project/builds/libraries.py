"""Keeps the garbage collector off what the libraries have loaded, for as long as a build runs.

After every step the garbage of a model is looked for, each time among a million objects of torch, transformers and
Dagster that stay anyway: a quarter of the time of a small study.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def libraries_left_alone() -> Iterator[Callable[[], None]]:
    """Gives what is to be called between two steps, when nothing but libraries is worth keeping. Does nothing in a
    process that has done it for itself."""
    if gc.get_freeze_count():
        yield lambda: None
        return
    modules = 0

    def leave_alone() -> None:
        nonlocal modules
        if len(sys.modules) > modules:  # a few times in a build: what else is there then may hang in a cycle for ever
            modules = len(sys.modules)
            gc.collect()
            gc.freeze()

    try:
        yield leave_alone
    finally:
        gc.unfreeze()
