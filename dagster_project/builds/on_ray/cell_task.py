"""What a node does: makes one cell as a build by hand would, in a process of Ray's."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from dagster_project.builds.on_ray.messages import Began, Ended, Send, SentProgress, warnings_sent
from dagster_project.builds.on_ray.setup import Setup, difference, refusal_without_home, setup_of
from dagster_project.runs.alive import fail_dead_runs
from dagster_project.runs.instance import open_instance
from dagster_project.runs.secrets import keep_secrets_out_of_logs, redacted
from dagster_project.runs.telemetry import keep_telemetry_off
from lwf_assets.errors import LwfError
from lwf_assets.graph.cells import Cell
from lwf_assets.store.home import Home
from lwf_assets.study.study import Study


@dataclass(frozen=True)
class CellOrder:
    """A cell to be made; `forced`: even if the store has it."""

    study: Study
    cell: Cell
    forced: bool


_found: dict[str, str | None] = {}
"""By build: what this process found when it compared its node with the machine that plans."""


def problem_of_node(build: str, study: Study, wanted: Setup) -> str | None:
    """Why this node would make something else of the study than was planned; None if it would not. Found out once by
    each process."""
    if build not in _found:
        _found.clear()
        _found[build] = _problem(study, wanted)
    return _found[build]


def _problem(study: Study, wanted: Setup) -> str | None:
    home = Home.from_environment()
    try:
        problem = refusal_without_home() or difference(wanted, setup_of(study, home))
        if problem is None:
            fail_dead_runs(open_instance(home), home)  # those that were at work here when the node last went down
    except LwfError as error:
        return redacted(str(error))
    return problem


def make_cell(build: str, order: CellOrder, wanted: Setup, messages: Any) -> Ended:
    """A task of Ray's; `messages` is a `ray.util.queue.Queue`."""
    import ray

    # Not `messages.put`, which waits for an answer: Ray takes who waits for idle, and gives its CPUs to another task.
    send = messages.actor.put_nowait.remote
    return carry_out(build, order, wanted, ray.get_runtime_context().get_node_id(), send)


def carry_out(build: str, order: CellOrder, wanted: Setup, node: str, send: Send) -> Ended:
    """Make the cell in this process, and send how far it is."""
    began, name = time.monotonic(), str(order.cell)
    send(Began(name, node))
    keep_telemetry_off()
    keep_secrets_out_of_logs()
    home = Home.from_environment()
    problem = problem_of_node(build, order.study, wanted)
    with warnings_sent(send, name):
        if problem is None:
            problem = _make(order, home, send)
    return Ended(node, time.monotonic() - began, problem)


def _make(order: CellOrder, home: Home, send: Send) -> str | None:
    from dagster_project.builds.batches import RunBatch
    from dagster_project.builds.builder import build
    from dagster_project.resources import LwfHome

    def refuse_others(batch: RunBatch) -> None:
        if batch.cells != (order.cell,):
            others = ", ".join(str(cell) for cell in batch.cells if cell != order.cell)
            raise LwfError(f"it is made from {others}, which was up to date when it was launched and is not any more")

    LwfHome.watch = lambda label: SentProgress(send, str(order.cell))
    force = [order.cell] if order.forced else []
    try:
        build(order.study, home, only=[order.cell], force=force, tell=refuse_others)
    except LwfError as error:
        return redacted(str(error))
    return None


def send_what_is_left_here() -> str | None:
    """Send what MLflow does not know yet of this node's work; returns what to say if it still does not."""
    from dagster_project.tracking.send import send_what_is_left

    return send_what_is_left(Home.from_environment())
