"""What a process that makes a cell on a node says meanwhile to the build that waits for it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from lwf_assets.progress import Silent

EVERY = 0.5
"""Seconds between two messages on how far a phase is."""


@dataclass(frozen=True)
class Began:
    """A process of the node with this id has taken up the cell: for the first time, or after another one died."""

    cell: str
    node: str


@dataclass(frozen=True)
class Phase:
    """How far the cell's work is."""

    cell: str
    label: str
    total: int
    done: int


@dataclass(frozen=True)
class Said:
    """A warning."""

    cell: str
    text: str


@dataclass(frozen=True)
class Ended:
    """The process is through with the cell; `problem` is what the user can fix."""

    node: str
    seconds: float
    problem: str | None = None


Message = Began | Phase | Said
Send = Callable[[Message], object]


class SentProgress(Silent):
    """Sends how far a cell is, a few times a second at most."""

    def __init__(self, send: Send, cell: str) -> None:
        self._send, self._cell = send, cell
        self._now = Phase(cell, "", 0, 0)
        self._sent = 0.0

    def begin(self, label: str, total: int) -> None:
        """Sent at once."""
        self._tell(Phase(self._cell, label, total, 0))

    def advance(self, amount: int = 1) -> None:
        """Sent when the last message is old enough, or the phase is over."""
        before = self._now
        self._now = Phase(before.cell, before.label, before.total, before.done + amount)
        if self._now.done >= self._now.total or time.monotonic() - self._sent >= EVERY:
            self._tell(self._now)

    def _tell(self, phase: Phase) -> None:
        self._now, self._sent = phase, time.monotonic()
        self._send(phase)


@contextmanager
def warnings_sent(send: Send, cell: str) -> Iterator[None]:
    """What this package warns of in the block is sent too."""

    class Sender(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            send(Said(cell, record.getMessage()))

    logger, sender = logging.getLogger("lwf"), Sender(logging.WARNING)
    logger.addHandler(sender)
    try:
        yield
    finally:
        logger.removeHandler(sender)
