"""What is simulated: a study on clusters of more and more devices, with and without each of the costs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.cluster.planner import RealPlanner
from benchmarks.cluster.simulation import Cluster, Decide, Outcome, Work, critical_path, simulate, total_work
from benchmarks.cluster.study import MEASURED, Earlier, ModelSize, work_of, write_large_study
from dagster_project.automation.tags import INTERVAL
from lwf_assets.study.study import Study

GIGABIT = 1e9 / 8
ORCHESTRATION = 10.0
"""Seconds of a cell beside its work: a process that starts, imports torch and opens its records. The most that this
project allows itself."""


@dataclass(frozen=True)
class Scenario:
    """A model on machines of one kind. `speed` is that of a device, over the device that was measured."""

    name: str
    title: str
    model: ModelSize
    dtype: str
    speed: float
    devices: int
    machine_bandwidth: float
    store_bandwidth: float
    cache: float

    def cluster(self, count: int, planning: float) -> Cluster:
        """One of `count` devices in all."""
        return Cluster(
            machines=math.ceil(count / self.devices),
            devices=min(count, self.devices),
            machine_bandwidth=self.machine_bandwidth,
            store_bandwidth=self.store_bandwidth,
            cache=self.cache,
            orchestration=ORCHESTRATION,
            planning=planning,
            tick=INTERVAL,
        )


CORES = Scenario(
    "cores",
    "A 135M model on small machines",
    MEASURED,
    "float32",
    speed=1,
    devices=1,
    machine_bandwidth=GIGABIT,
    store_bandwidth=10 * GIGABIT,
    cache=100e9,
)
CARDS = Scenario(
    "cards",
    "An 8B model on machines of eight cards",
    ModelSize("8B", 4096, 14336, 32, 32, 8, 128256, tied=False),
    "bfloat16",
    speed=1000,
    devices=8,
    machine_bandwidth=25 * GIGABIT,
    store_bandwidth=100 * GIGABIT,
    cache=2e12,
)

WITHOUT: dict[str, dict[str, float]] = {
    "transfers": {"machine_bandwidth": math.inf, "store_bandwidth": math.inf},
    "orchestration": {"orchestration": 0.0},
    "planning": {"planning": 0.0, "tick": 0.0},
}
"""Each cost, and what a cluster without it is."""


def measure(
    scenario: Scenario,
    side: int,
    counts: Sequence[int],
    folder: Path,
    earlier: Earlier,
    say: Callable[[str], None],
    *,
    planned_from: int = 1,
) -> dict[str, Any]:
    """Simulate a study of `side` tasks of each kind on each of `counts` devices, the real planner in the loop; then
    again without each of the costs, and without all of them. On clusters of less than `planned_from` devices, the
    planner's rule stands in for it."""
    study = write_large_study(folder, side, scenario.model, scenario.dtype)
    cells = work_of(study, folder, earlier, scenario.speed)
    planning = _planner_seconds(study, folder, cells)
    points = []
    for count in counts:
        cluster = scenario.cluster(count, planning)
        planner = RealPlanner(study, folder / "planner")
        rule = by_needs(cells)
        outcome = simulate(cells, compared(planner, rule) if count >= planned_from else rule, cluster)
        assert len(outcome.ended) == len(cells)
        without = {name: simulate(cells, by_needs(cells), replace(cluster, **off)) for name, off in WITHOUT.items()}  # type: ignore[arg-type]
        bare = Cluster(cluster.machines, cluster.devices)
        points.append(
            {
                "devices": count,
                "machines": cluster.machines,
                **_figures(outcome),
                "planner_seconds": planner.seconds,
                "near": _figures(simulate(cells, by_needs(cells), replace(cluster, near=True))),
                "without": {name: other.makespan for name, other in without.items()},
                "without_all": simulate(cells, by_needs(cells), bare).makespan,
            }
        )
        say(f"{scenario.name}, {count} devices: {outcome.makespan / 3600:.2f} h, {outcome.plannings} plannings")
    return {
        "scenario": {**asdict(scenario), "orchestration": ORCHESTRATION, "planning": planning, "tick": INTERVAL},
        "cells": len(cells),
        "quick_seconds": earlier.without_model,
        "work": total_work(cells),
        "critical_path": critical_path(cells),
        "chain": longest_chain(cells),
        "published": sum(work.size for work in cells.values()),
        "points": points,
    }


def by_needs(cells: Mapping[str, Work]) -> Decide:
    """The rule in its plain form: launch what was not launched and whose needs have all ended."""
    left = {name: set(work.needs) for name, work in cells.items()}
    needed_by: dict[str, list[str]] = {}
    for name, work in cells.items():
        for needed in work.needs:
            needed_by.setdefault(needed, []).append(name)
    order = {name: number for number, name in enumerate(cells)}
    waiting = {name for name, needs in left.items() if not needs}

    def decide(ended: Sequence[str]) -> list[str]:
        for name in ended:
            for other in needed_by.get(name, ()):
                left[other].discard(name)
                if not left[other]:
                    waiting.add(other)
        launched = sorted(waiting, key=order.__getitem__)
        waiting.clear()
        return launched

    return decide


def compared(planner: Decide, plain: Decide) -> Decide:
    """What `planner` says, which must be what `plain` says."""

    def decide(ended: Sequence[str]) -> Sequence[str]:
        launched = planner(ended)
        assert list(launched) == list(plain(ended)), (
            "the planner launches other cells than those whose needs have ended"
        )
        return launched

    return decide


def longest_chain(cells: Mapping[str, Work]) -> list[str]:
    """The cells of the critical path, first to last."""
    ends: dict[str, float] = {}
    before: dict[str, str | None] = {}
    for name, work in cells.items():
        before[name] = max(work.needs, key=ends.__getitem__, default=None)
        ends[name] = work.seconds + (ends[last] if (last := before[name]) is not None else 0.0)
    chain, at = list[str](), max(ends, key=ends.__getitem__, default=None)
    while at is not None:
        chain.append(at)
        at = before[at]
    return chain[::-1]


def _planner_seconds(study: Study, folder: Path, cells: Mapping[str, Work]) -> float:
    """Mean seconds of the planner's answers over a build in which all that runs ends at once."""
    planner = RealPlanner(study, folder / "planner")
    launched = planner([])
    while launched:
        launched = planner(launched)
    return sum(planner.seconds) / len(planner.seconds)


def _figures(outcome: Outcome) -> dict[str, Any]:
    values = asdict(outcome)
    del values["ended"], values["fetched"]
    return values
