"""What every attack has in common: where it works, how much of it is tried, and what is said of each trial."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Trial:
    """One thing that was done to the pipeline. `trouble` says what did not hold; empty if all did."""

    what: str
    trouble: str = ""

    @property
    def survived(self) -> bool:
        """Whether everything held that the attack's promise says."""
        return not self.trouble


@dataclass(frozen=True)
class Field:
    """Where one attack works: a folder of its own, draws of its own, and how many trials there are to be. `whole` are
    the versions of an undisturbed build."""

    folder: Path
    whole: Mapping[str, str]
    draws: random.Random
    trials: int


@dataclass(frozen=True)
class Attack:
    """One kind of harm.

    Args:
        name: on the command line.
        what: what is done, as a line of the table.
        promise: what must hold after each trial, whatever was done.
        run: does it, and gives a trial each.
        trials: of the whole campaign.
        few: of its short form, in CI; 0 where a test of its own does as much.
    """

    name: str
    what: str
    promise: str
    run: Callable[[Field], Iterator[Trial]]
    trials: int
    few: int
