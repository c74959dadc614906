"""Which tasks, and which model of the comparison, an artifact belongs to."""

from __future__ import annotations

from dataclasses import dataclass

ARM = "arm"
FORGETTING_TASK = "forgetting_task"
LEARNING_TASK = "learning_task"
MODEL = "model"
PRIOR = "prior"


@dataclass(frozen=True, order=True)
class Partition:
    """A point of the grid: those of its coordinates are given along which its asset is partitioned."""

    forgetting_task: str | None = None
    learning_task: str | None = None
    arm: str | None = None
    """An arm of the study, with its forgetting task if there is one for each: `bss`, `npo.dental`."""
    model: str | None = None
    """A model of the comparison: `base`, `reference`, `lwf.dental`, or an arm."""
    prior: str | None = None
    """The knowledge that a control base was taught."""

    @property
    def key(self) -> str | None:
        """The partition key as Dagster writes it, in the order of the dimensions' names: `forgetting|learning`, one
        name alone, or None when unpartitioned."""
        parts = (self.arm, self.forgetting_task, self.learning_task, self.model, self.prior)
        return "|".join(part for part in parts if part is not None) or None

    @classmethod
    def of_key(cls, dimensions: tuple[str, ...], key: str | None) -> Partition:
        """The partition along `dimensions` that is written `key`."""
        return cls(**dict(zip(dimensions, key.split("|") if key is not None else [], strict=True)))

    @property
    def folder(self) -> str:
        """The key as a folder name."""
        return folder_name(self.key)

    def narrowed(self, dimensions: tuple[str, ...]) -> Partition:
        """The coordinates along `dimensions` alone."""
        return Partition(**{name: getattr(self, name) for name in dimensions})

    def __str__(self) -> str:
        return self.key or "-"


def folder_name(key: str | None) -> str:
    """A partition key as a folder name, without the characters that a shell treats specially."""
    return (key or "unpartitioned").replace("|", "+")
