"""The progress of a long step: how far it is, and points of its curves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Progress(Protocol):
    """Called by the steps; implemented by the terminal, by Dagster's log and by MLflow."""

    def begin(self, label: str, total: int) -> None:
        """A phase of `total` units of work starts; it ends when the next one begins."""

    def advance(self, amount: int = 1) -> None:
        """So many more units are done."""

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Points of curves at `step`; names may hold a `/`."""


class Silent:
    """Reports to nobody."""

    def begin(self, label: str, total: int) -> None:
        """Ignored."""

    def advance(self, amount: int = 1) -> None:
        """Ignored."""

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Ignored."""


class Several:
    """Reports to each of several watchers."""

    def __init__(self, *watchers: Progress) -> None:
        self._watchers = watchers

    def begin(self, label: str, total: int) -> None:
        """Passed on."""
        for watcher in self._watchers:
            watcher.begin(label, total)

    def advance(self, amount: int = 1) -> None:
        """Passed on."""
        for watcher in self._watchers:
            watcher.advance(amount)

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Passed on."""
        for watcher in self._watchers:
            watcher.metrics(step, values)


SILENT = Silent()
