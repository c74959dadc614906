"""Which cells go into the next Dagster run of a build by hand: a pure function of the plan."""

from __future__ import annotations

from dataclasses import dataclass

from dagster_project.partitions import JOB_OF_DIMENSIONS
from lwf_assets.graph.cells import Cell, needs_of
from lwf_assets.planning.plan import Plan
from lwf_assets.store.partition import Partition
from lwf_assets.study.study import Study


@dataclass(frozen=True)
class RunBatch:
    """Cells of one partition that go into one Dagster run."""

    dimensions: tuple[str, ...]
    partition: Partition
    cells: tuple[Cell, ...]

    @property
    def job(self) -> str:
        """Name of the job that runs it."""
        return JOB_OF_DIMENSIONS[self.dimensions]


def next_batch(study: Study, plan: Plan) -> RunBatch | None:
    """The first run that the plan allows: a stale cell whose stale ancestors are all in the same run."""
    stale = {step.cell for step in plan.stale}
    done: set[Cell] = {step.cell for step in plan.steps} - stale - {step.cell for step in plan.blocked}
    for step in plan.stale:
        batch = _batch_from(study, step.cell, [s.cell for s in plan.stale], done)
        if batch:
            return RunBatch(step.cell.spec.dimensions, step.cell.partition, batch)
    return None


def _batch_from(study: Study, first: Cell, stale: list[Cell], done: set[Cell]) -> tuple[Cell, ...]:
    """Every stale cell of `first`'s partition that needs nothing but cells that are up to date, and earlier ones of
    this run."""
    together: list[Cell] = []
    for cell in stale:
        same_run = cell.spec.dimensions == first.spec.dimensions and cell.partition == first.partition
        if same_run and needs_of(study, cell) <= done | set(together):
            together.append(cell)
    return tuple(together)
