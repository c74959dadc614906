"""The seconds and the memory of one call."""

from __future__ import annotations

import gc
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from lwf_assets.cost.free_memory import give_back_what_is_unused

T = TypeVar("T")


@dataclass(frozen=True)
class Measurement:
    """Wall time in seconds; resident memory at the call's peak less that before it, in bytes (None where the system
    does not tell)."""

    seconds: float
    peak_bytes: int | None


def measure(call: Callable[[], T]) -> tuple[T, Measurement]:
    """Run `call` once. Freed memory is handed back to the system first: no call profits from what another one left."""
    give_back_what_is_unused()
    before = _resident() if _reset_peak() else None
    began = time.perf_counter()
    result = call()
    seconds = time.perf_counter() - began
    peak = None if before is None else _status("VmHWM") - before
    return result, Measurement(seconds, peak)


@contextmanager
def short_collections() -> Iterator[None]:
    """Within the block, garbage collection looks at what is made in it alone, and not at all that was imported before:
    hundreds of thousands of objects, at a fifth of a second each time."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _reset_peak() -> bool:
    """Have the kernel count the peak of the resident memory again; False where there is no such switch."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _resident() -> int:
    return _status("VmRSS")


def _status(field: str) -> int:
    """A field of /proc/self/status, in bytes."""
    found = re.search(rf"^{field}:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024
