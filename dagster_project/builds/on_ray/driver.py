"""A build on a Ray cluster: plans here, has each cell made where there is room, and plans again when one has ended.

What to launch is decided as in unattended builds (`automation/build_driver.py`), where and when by Ray, and what is
current by the shared store.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
from typing import Protocol

from dagster_project.automation.build_driver import CellRun, RunState, decide
from dagster_project.builds.builder import refuse_blocked
from dagster_project.builds.on_ray.cell_task import CellOrder
from dagster_project.builds.on_ray.connection import connected
from dagster_project.builds.on_ray.messages import Began, Message, Phase, Said
from dagster_project.builds.on_ray.setup import setup_of
from dagster_project.builds.on_ray.tasks import Tasks
from dagster_project.cluster.launchers import only as only_work_of
from dagster_project.cluster.launchers import threads_of_a_process
from dagster_project.cluster.machine_needs import Needs, Node, needs_of_machine, problem_of_size
from lwf_assets.errors import LwfError
from lwf_assets.graph.cells import Cell
from lwf_assets.planning.forecast import foresee
from lwf_assets.planning.plan import Action, Plan, Step, make_plan
from lwf_assets.store.home import REMOTE_VARIABLE, Home
from lwf_assets.store.shared.mirror import SharedMirror
from lwf_assets.study.study import Study

POLL = 0.25
"""Seconds between two looks at what the nodes say."""
LOOK = 15.0
"""Seconds between two looks at which nodes there are."""


class Watcher(Protocol):
    """Who shows a build on a cluster."""

    def nodes(self, nodes: tuple[Node, ...]) -> None:
        """The cluster was reached, and every node can make what was planned."""

    def count(self, done: int, left: int) -> None:
        """So many cells are made, and so many are still stale."""

    def began(self, cell: str, node: str, *, again: bool) -> None:
        """A node has taken up a cell; `again`, because another process or node died that was at it."""

    def phase(self, cell: str, label: str, total: int, done: int) -> None:
        """How far it is."""

    def ended(self, cell: str, node: str | None, seconds: float | None, problem: str | None) -> None:
        """It is made, or could not be."""

    def said(self, who: str, text: str) -> None:
        """A warning from a cell or a node."""


def build_on_ray(
    study: Study,
    home: Home,
    address: str,
    watcher: Watcher,
    *,
    only: Collection[Cell] | None = None,
    force: Collection[Cell] = (),
) -> list[Cell]:
    """Make the study, or `only` some cells with all that they are made from, up to date, on the nodes of a cluster.

    Args:
        study: what is wanted.
        home: whose store is a cache of the shared one; nothing else of it is used.
        address: of the cluster.
        watcher: notified of how far everything is.
        only: cells that are asked for; None for all.
        force: cells to rebuild even if they are up to date.

    Returns:
        The cells that were made, in the order in which they ended.

    Raises:
        LwfError: no shared store, no cluster, a node that would make something else, a cell that no node has room for;
            or, when all that does not depend on it is made, what went wrong with each cell that could not be.
        KeyboardInterrupt: Ctrl-C.
    """
    if not isinstance(home.store.mirror, SharedMirror):
        raise LwfError(
            f"{REMOTE_VARIABLE} is not set: the nodes of a cluster share what they build through the store that it "
            "names. Set it, to an address such as s3://bucket/prefix, here and on every node"
        )
    with connected(address) as ray:
        build = ClusterBuild(study, home, Tasks(ray, study, setup_of(study, home)), watcher, only, set(force))
        return build.run()


class ClusterBuild:
    """The arguments are those of `build_on_ray`; `tasks` are connected to the cluster."""

    def __init__(
        self,
        study: Study,
        home: Home,
        tasks: Tasks,
        watcher: Watcher,
        only: Collection[Cell] | None,
        forced: set[Cell],
    ) -> None:
        self._study, self._home, self._tasks, self._watcher = study, home, tasks, watcher
        self._only, self._forced = only, forced
        self._nodes = tasks.nodes()
        self._looked = time.monotonic()
        self._launched: dict[str, tuple[Step, Needs]] = {}
        """The cells that are queued or being made, by name."""
        self._at: dict[str, str] = {}
        """The node that each of them is at, once one has taken it up."""
        self._runs: list[CellRun] = []
        self._problems: dict[str, str] = {}
        self._made: list[Cell] = []
        self._told: set[str] = set()

    def run(self) -> list[Cell]:
        """Until nothing more can be made."""
        plan = self._plan()
        self._refuse_what_no_node_has(plan)
        problems = self._tasks.problems_of(node for node in self._nodes if node.cpus >= 1)
        if problems:
            raise LwfError("; ".join(problems))
        self._watcher.nodes(self._nodes)
        try:
            while True:
                self._watcher.count(len(self._made), len(plan.stale))
                decision = decide(self._study, plan, [*self._runs, *self._active()])
                if decision.is_over:
                    break
                self._launch(plan, decision.launch)
                self._wait()
                plan = self._plan()
        except BaseException:
            self._tasks.cancel()
            raise
        for text in self._tasks.unsent_of(node for node in self._tasks.nodes() if node.cpus >= 1):
            self._watcher.said("MLflow", text)
        self._receive_all()
        self._refuse_failed(plan)
        return self._made

    def _plan(self) -> Plan:
        return make_plan(self._study, self._home.store, self._home.file_hashes, only=self._only, force=self._forced)

    def _active(self) -> list[CellRun]:
        return [CellRun(name, str(step.recipe), RunState.ACTIVE) for name, (step, _) in self._launched.items()]

    def _needs(self, plan: Plan, steps: Iterable[Step]) -> dict[Cell, Needs]:
        steps = tuple(steps)
        foreseen = foresee(self._study, self._home.store, only_work_of(plan, steps)).steps
        on_gpus, threads = any(node.gpus for node in self._nodes), threads_of_a_process()
        return {
            step.cell: needs_of_machine(self._study, step, foreseen.get(step.cell), on_gpus=on_gpus, threads=threads)
            for step in steps
        }

    def _refuse_what_no_node_has(self, plan: Plan) -> None:
        for cell, needs in self._needs(plan, (step for step in plan.stale if step.action == Action.MAKE)).items():
            problem = problem_of_size(cell, needs, self._nodes)
            if problem is not None:
                raise LwfError(problem)

    def _launch(self, plan: Plan, steps: tuple[Step, ...]) -> None:
        for step, needs in zip(steps, self._needs(plan, steps).values(), strict=True):
            problem = problem_of_size(step.cell, needs, self._nodes)
            if problem is not None:  # its inputs, which are there by now, are larger than was estimated
                self._failed(str(step.cell), step, problem)
                continue
            self._launched[str(step.cell)] = step, needs
            self._tasks.launch(CellOrder(self._study, step.cell, step.cell in self._forced), needs)

    def _wait(self) -> None:
        """Until a cell has ended."""
        while self._launched:
            ended = self._tasks.ended(POLL)
            self._receive_all()
            for name, outcome in ended:
                step, _ = self._launched.pop(name)
                self._at.pop(name, None)
                if isinstance(outcome, str):
                    self._failed(name, step, outcome)
                elif outcome.problem is not None:
                    self._failed(name, step, outcome.problem, self._name_of(outcome.node), outcome.seconds)
                else:
                    self._made.append(step.cell)
                    self._problems.pop(name, None)  # of an earlier recipe of it
                    self._runs.append(CellRun(name, str(step.recipe), RunState.SUCCEEDED))
                    self._watcher.ended(name, self._name_of(outcome.node), outcome.seconds, None)
                self._forced.discard(step.cell)
            if ended:
                return
            self._look_at_nodes()

    def _failed(
        self, name: str, step: Step, problem: str, node: str | None = None, seconds: float | None = None
    ) -> None:
        self._runs.append(CellRun(name, str(step.recipe), RunState.FAILED))
        self._problems[name] = f"{name}: {problem}" if node is None else f"{name} on {node}: {problem}"
        self._watcher.ended(name, node, seconds, problem)

    def _receive_all(self) -> None:
        for message in self._tasks.messages():
            if isinstance(message, Said) or message.cell in self._launched:  # and not through already
                self._receive(message)

    def _receive(self, message: Message) -> None:
        match message:
            case Began(cell, node):
                self._watcher.began(cell, self._name_of(node), again=cell in self._at)
                self._at[cell] = node
            case Phase(cell, label, total, done):
                self._watcher.phase(cell, label, total, done)
            case Said(cell, text):
                self._watcher.said(cell, text)

    def _look_at_nodes(self) -> None:
        """A node may have come or gone. Ray waits for one that has room, for ever if there is none."""
        if time.monotonic() - self._looked < LOOK:
            return
        self._looked = time.monotonic()
        self._nodes = self._tasks.nodes()
        for name, (step, needs) in self._launched.items():
            problem = problem_of_size(step.cell, needs, self._nodes)
            if problem is not None and name not in self._told:
                self._told.add(name)
                self._watcher.said(name, f"waits for a node: {problem}")

    def _name_of(self, node: str) -> str:
        names = {known.id: known.name for known in self._nodes}
        if node not in names:
            self._nodes = self._tasks.nodes()
            names |= {known.id: known.name for known in self._nodes}
        return names.get(node, node[:6])

    def _refuse_failed(self, plan: Plan) -> None:
        for step in plan.stale:
            name = str(step.cell)
            if name not in self._problems and any(run.cell == name and run.recipe == step.recipe for run in self._runs):
                self._problems[name] = (
                    f"{name}: was made, and is as stale as before: the files that it is made from were changed "
                    "meanwhile, here or on the node"
                )
        if self._problems:
            told = list(self._problems.values())
            raise LwfError(told[0] if len(told) == 1 else f"{len(told)} cells failed. " + "; ".join(told))
        refuse_blocked(plan.blocked)
