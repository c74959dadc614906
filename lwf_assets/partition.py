"""Which learning task and which forgetting task an artifact belongs to."""

from __future__ import annotations

from dataclasses import dataclass

LEARNING_TASK = "learning_task"
FORGETTING_TASK = "forgetting_task"


@dataclass(frozen=True, order=True)
class Partition:
    """A point of the grid: none, one or both of its coordinates are given."""

    forgetting_task: str | None = None
    learning_task: str | None = None

    @property
    def key(self) -> str | None:
        """The partition key as Dagster writes it: `forgetting|learning`, one name alone, or None when unpartitioned."""
        return "|".join(part for part in (self.forgetting_task, self.learning_task) if part is not None) or None

    @property
    def folder(self) -> str:
        """The key as a folder name, without the characters that a shell treats specially."""
        return (self.key or "unpartitioned").replace("|", "+")

    def narrowed(self, dimensions: tuple[str, ...]) -> Partition:
        """The coordinates along `dimensions` alone."""
        return Partition(
            forgetting_task=self.forgetting_task if FORGETTING_TASK in dimensions else None,
            learning_task=self.learning_task if LEARNING_TASK in dimensions else None,
        )

    def __str__(self) -> str:
        return self.key or "-"
