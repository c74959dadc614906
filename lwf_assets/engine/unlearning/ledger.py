"""The record of unlearning: which sample was pushed at which step, and what remained of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any


@dataclass(frozen=True)
class LedgerEntry:
    """One sample of one unlearning step: its NLL per token (nats) just before it and when it was next evaluated.

    `nll_after` is what remained: the NLL at the sample's next turn, or at the end of training after its last one; None
    until then. (Evaluating right after each update would cost a forward pass, and would miss what learning brings
    back.) `pushed` is False when the sample was at or above the cap already and gave no gradient. `update_norm` is the
    Euclidean norm of the change that the whole step made to the weights, the same for all its samples; 0 if the step
    was skipped, None if it was not measured.
    """

    step: int
    sample_id: str
    nll_before: float
    nll_after: float | None
    pushed: bool
    update_norm: float | None = None


class Ledger:
    """Entries in order; a sample's newest is open until the sample is evaluated again."""

    def __init__(self, saved: Sequence[dict[str, Any]] = ()) -> None:
        self.entries = [LedgerEntry(**entry) for entry in saved]
        self._last_entry = {entry.sample_id: number for number, entry in enumerate(self.entries)}

    def to_save(self) -> list[dict[str, Any]]:
        """The entries as the constructor takes them."""
        return [asdict(entry) for entry in self.entries]

    def names(self) -> list[str]:
        """The samples that had a turn."""
        return list(self._last_entry)

    def note(self, new: Sequence[LedgerEntry]) -> None:
        """Append one step's entries; their NLL is also what remained of the same samples' turns before."""
        for entry in new:
            self.close(entry.sample_id, entry.nll_before)
            self._last_entry[entry.sample_id] = len(self.entries)
            self.entries.append(entry)

    def close(self, name: str, nll: float) -> None:
        """Note what remained of the sample's last turn, if it had one."""
        number = self._last_entry.get(name)
        if number is not None:
            self.entries[number] = replace(self.entries[number], nll_after=nll)
