"""One thing to be checked on a card, and what came of it."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch


@dataclass(frozen=True)
class Place:
    """Where checks run. `tiny`: on models and sizes that a CPU can do, to test the checks themselves."""

    device: torch.device
    tiny: bool

    @property
    def free_bytes(self) -> float:
        """Of the device's memory; on a CPU, no limit."""
        if self.device.type != "cuda":
            return float("inf")
        return torch.cuda.mem_get_info(self.device)[0]

    def seconds(self, call: Callable[[], object], *, rounds: int = 3) -> float:
        """Median of some calls, after one that compiles and warms up."""
        call()
        taken = []
        for _ in range(1 if self.tiny else rounds):
            self._wait()
            began = time.perf_counter()
            call()
            self._wait()
            taken.append(time.perf_counter() - began)
        return statistics.median(taken)

    def peak_gib(self, call: Callable[[], object]) -> float | None:
        """Device memory at the call's peak, all that is held before included; None on a CPU."""
        if self.device.type != "cuda":
            return None
        torch.cuda.reset_peak_memory_stats(self.device)
        call()
        return float(torch.cuda.max_memory_allocated(self.device) / 2**30)

    def clear(self) -> None:
        """Give back what the last check held."""
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


class Skipped(Exception):  # noqa: N818  # it is no error
    """Raised by a check that cannot be done here, with the reason."""


@dataclass(frozen=True)
class Figure:
    """One figure and, if there is one, the bar that it must not be above (or, `at_least`, below)."""

    what: str
    value: float
    bar: float | None = None
    unit: str = "x"
    at_least: bool = False
    notes: dict[str, float | str | None] = field(default_factory=dict)

    @property
    def passed(self) -> bool | None:
        """None without a bar."""
        if self.bar is None:
            return None
        return self.value >= self.bar if self.at_least else self.value <= self.bar


@dataclass(frozen=True)
class Check:
    """`run` gives the figures. It is skipped on a card with less than `gib` free, or with less than `seconds` left."""

    name: str
    title: str
    run: Callable[[Place], list[Figure]]
    seconds: float = 10
    gib: float = 1


def run_check(check: Check, place: Place, seconds_left: float) -> dict[str, Any]:
    """What came of it, for the JSON file: figures, or why there are none."""
    began = time.perf_counter()
    outcome: dict[str, Any] = {"name": check.name, "title": check.title, "figures": [], "reason": None}
    place.clear()
    try:
        if seconds_left < check.seconds:
            raise Skipped(f"{seconds_left:.0f} s were left, and it takes some {check.seconds:.0f}")
        if place.free_bytes < check.gib * 2**30 and not place.tiny:
            raise Skipped(f"it needs {check.gib:.0f} GiB, and {place.free_bytes / 2**30:.0f} are free")
        figures = check.run(place)
        outcome["figures"] = [{**vars(figure), "passed": figure.passed} for figure in figures]
    except Skipped as reason:
        outcome["reason"] = str(reason)
    except Exception as error:  # one check that fails does not take the others with it
        outcome["reason"] = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        outcome["failed"] = True
    outcome["seconds"] = round(time.perf_counter() - began, 1)
    return outcome
