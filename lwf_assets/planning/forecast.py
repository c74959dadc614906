"""What a plan will cost: seconds, memory and disk of every step that does work, and of them all together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lwf_assets.cost.cell_cost import cost_of
from lwf_assets.cost.disk_space import DiskSpace, disk_space_of
from lwf_assets.cost.free_memory import free_memory
from lwf_assets.cost.wall_time import Pace
from lwf_assets.graph.cells import Cell
from lwf_assets.planning.plan import Action, Plan, Step
from lwf_assets.store.store import Artifact, Store
from lwf_assets.study.study import Study

RECORDS = 200_000
"""Bytes that Dagster and MLflow write of a step."""


@dataclass(frozen=True)
class Foreseen:
    """One step's wall time in seconds, peak memory in bytes, and room on the disk; None where neither the store nor the
    model says.

    `surely` is the part of the memory that is needed whatever the lengths of the rows; with more than the `free` bytes
    the step will be refused. `guessed`: typical lengths stood in for those of data that are not there yet.
    """

    seconds: float | None
    memory: int | None
    disk: DiskSpace
    surely: int
    free: int | None
    guessed: bool

    @property
    def cannot_fit(self) -> bool:
        """Whether the step is certain to need more than is free."""
        return self.free is not None and self.surely > self.free


@dataclass(frozen=True)
class Foresight:
    """The steps of a plan that do work, each with what it will cost."""

    steps: Mapping[Cell, Foreseen]

    @property
    def seconds(self) -> float | None:
        """Of the steps whose time is known; None if that is none of them."""
        known = [step.seconds for step in self.steps.values() if step.seconds is not None]
        return sum(known) if known else None

    @property
    def memory(self) -> int | None:
        """Bytes of the step that needs most: one runs at a time."""
        return max((step.memory for step in self.steps.values() if step.memory is not None), default=None)

    @property
    def disk(self) -> int:
        """Bytes that all steps together surely write and keep, records of them included, and the most that one of them
        needs meanwhile."""
        spaces = [step.disk for step in self.steps.values()]
        return sum(space.kept + RECORDS for space in spaces) + max((space.meanwhile for space in spaces), default=0)

    @property
    def untimed(self) -> int:
        """Steps whose time nothing is known about."""
        return sum(step.seconds is None for step in self.steps.values())

    def to_dict(self, plan: Plan) -> dict[str, Any]:
        """The plan for `--json`, with seconds and bytes."""
        plan_entry = plan.to_dict()
        return {
            **plan_entry,
            "stale": [{**entry, **self._of(step)} for entry, step in zip(plan_entry["stale"], plan.stale, strict=True)],
            "seconds": _rounded(self.seconds),
            "steps_without_seconds": self.untimed,
            "memory_bytes": self.memory,
            "disk_bytes": self.disk,
        }

    def _of(self, step: Step) -> dict[str, Any]:
        foreseen = self.steps.get(step.cell)
        if foreseen is None:
            return {"seconds": None, "memory_bytes": None, "disk_bytes": None}
        return {
            "seconds": _rounded(foreseen.seconds),
            "memory_bytes": foreseen.memory,
            "disk_bytes": foreseen.disk.needed,
            "guessed": foreseen.guessed,
            "cannot_fit": foreseen.cannot_fit,
        }


def foresee(study: Study, store: Store, plan: Plan) -> Foresight:
    """What the plan's steps will cost, by what is known before the first of them."""
    settled = {s.cell: s.recipe for s in plan.steps if s.action in (Action.NOTHING, Action.TAKE, Action.CHECK)}

    def known(cell: Cell) -> Artifact | None:
        recipe = settled.get(cell)
        return None if recipe is None else store.by_recipe(cell.asset, cell.partition, recipe)

    pace = Pace(store)
    shared = study.compute.processes
    free = {where: free_memory(on_accelerator=where, processes=shared if where else 1) for where in (True, False)}
    steps = {}
    for step in plan.steps:
        if step.action == Action.MAKE:
            cost = cost_of(study, step.cell, known)
            seconds = pace.seconds(step.cell, cost, step.recipe)
            space = disk_space_of(study, step.cell, known)
            room = free[cost.on_accelerator]
            steps[step.cell] = Foreseen(seconds, cost.memory, space, cost.surely, room, cost.guessed)
    return Foresight(steps)


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)
