"""Transfers that share the bandwidths of machines and of an object store."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(eq=False)
class _Transfer:
    machine: int
    left: float
    ended: Callable[[], None]
    rate: float = 0.0


class Network:
    """Fluid transfers between machines and one store, each at its max-min fair share of what both can do.

    Args:
        machine: bytes per second of one machine, both directions together.
        store: bytes per second of the object store, for all machines together.
    """

    def __init__(self, machine: float, store: float) -> None:
        self._machine, self._store = machine, store
        self._transfers: list[_Transfer] = []
        self._now = 0.0

    def begin(self, now: float, machine: int, size: float, ended: Callable[[], None]) -> None:
        """Start a transfer of `size` bytes; `ended` is called when it is over."""
        self._proceed(now)
        self._transfers.append(_Transfer(machine, size, ended))
        self._share()

    def next_end(self) -> float:
        """When the first of the transfers ends; infinity where there is none."""
        return min((self._end_of(transfer) for transfer in self._transfers), default=math.inf)

    def advance(self, now: float) -> None:
        """Bring all transfers to `now`, which is no later than `next_end`, and end those that are over."""
        over = [t for t in self._transfers if self._end_of(t) <= now]
        self._proceed(now)
        self._transfers = [t for t in self._transfers if t not in over]
        self._share()
        for transfer in over:
            transfer.ended()

    def _end_of(self, transfer: _Transfer) -> float:
        return self._now + (0.0 if math.isinf(transfer.rate) else max(transfer.left, 0.0) / transfer.rate)

    def _proceed(self, now: float) -> None:
        if now > self._now:
            for transfer in self._transfers:
                transfer.left -= transfer.rate * (now - self._now)
        self._now = now

    def _share(self) -> None:
        """Give each transfer its rate: machines that ask for less than a fair share of the store get what they can
        take, and the others share the rest equally by transfers."""
        by_machine: dict[int, list[_Transfer]] = {}
        for transfer in self._transfers:
            by_machine.setdefault(transfer.machine, []).append(transfer)
        capacity, waiting = self._store, len(self._transfers)
        for own in sorted(by_machine.values(), key=len, reverse=True):  # those with the smallest share each first
            rate = min(self._machine / len(own), capacity / waiting)
            for transfer in own:
                transfer.rate = rate
            waiting -= len(own)
            if math.isfinite(capacity):
                capacity -= rate * len(own)
