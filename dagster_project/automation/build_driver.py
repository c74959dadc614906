"""Which runs an unattended build launches next: a pure function of the plan and of the runs there are.

Only one sensor launches the runs of cells; schedules and other sensors only request a build. So two of them at once, a
tick that was missed and a restart in the middle all end in the same build, and nothing is trained twice.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from json import dumps, loads

from lwf_assets.graph.cells import needs_of
from lwf_assets.planning.plan import Plan, Step
from lwf_assets.study.study import Study


class RunState(StrEnum):
    """How far a run of a cell is."""

    ACTIVE = "active"
    """Queued, running, or about to be retried."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True)
class CellRun:
    """A run that this build launched for one cell, by the recipe that the cell then had."""

    cell: str
    recipe: str
    state: RunState


@dataclass(frozen=True)
class NextRuns:
    """What to do now. `launch` may run concurrently; without it and without `waiting` the build is over."""

    launch: tuple[Step, ...]
    waiting: tuple[str, ...]
    """Cells that are being made."""
    failed: tuple[str, ...]
    """Cells whose run failed, or changed nothing: not tried again in this build."""
    blocked: tuple[str, ...]
    """Cells that a failed check, in them or above them, keeps from being used."""

    @property
    def is_over(self) -> bool:
        """Nothing runs and nothing can be launched."""
        return not self.launch and not self.waiting


def decide(study: Study, plan: Plan, runs: Iterable[CellRun]) -> NextRuns:
    """Launch every stale cell that needs nothing stale, unless this build is at it or has tried it.

    A cell whose run succeeded and which is stale by the same recipe still is not tried again: another run would change
    as little.
    """
    by_cell: dict[str, list[CellRun]] = {}
    for run in runs:
        by_cell.setdefault(run.cell, []).append(run)
    stale = {step.cell for step in plan.stale}
    unusable = stale | {step.cell for step in plan.blocked}
    launch, failed = list[Step](), list[str]()
    for step in plan.stale:
        name = str(step.cell)
        tried = by_cell.get(name, [])
        if any(run.state == RunState.ACTIVE for run in tried):
            continue
        if any(run.recipe == step.recipe for run in tried):
            failed.append(name)
        elif not step.waits and not needs_of(study, step.cell) & unusable:
            launch.append(step)
    waiting = tuple(name for name, tried in by_cell.items() if any(run.state == RunState.ACTIVE for run in tried))
    blocked = tuple(str(step.cell) for step in plan.blocked)
    return NextRuns(tuple(launch), waiting, tuple(failed), blocked)


@dataclass(frozen=True)
class BuildCursor:
    """What the sensor remembers between its ticks: the build it is at, and the last request that it has seen.

    `build` is the id of the run that asked for it; `seen` the storage id of the newest such run.
    """

    build: str | None = None
    seen: int = 0

    @classmethod
    def from_cursor(cls, cursor: str | None) -> BuildCursor:
        """The inverse of `to_cursor`."""
        return cls(**loads(cursor)) if cursor else cls()

    def to_cursor(self) -> str:
        """As JSON."""
        return dumps(asdict(self))

    def opened(self, build: str, seen: int) -> BuildCursor:
        """At a new build; every request up to `seen` is part of it."""
        return BuildCursor(build, seen)

    def closed(self) -> BuildCursor:
        """At none."""
        return replace(self, build=None)
