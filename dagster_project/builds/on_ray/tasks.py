"""The tasks of one build on a Ray cluster: Ray queues them, finds room, and starts those of a node that died again."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from typing import Any

from dagster_project.builds.on_ray.cell_task import CellOrder, make_cell, problem_of_node, send_what_is_left_here
from dagster_project.builds.on_ray.messages import Ended, Message
from dagster_project.builds.on_ray.setup import Setup
from dagster_project.cluster.machine_needs import Needs, Node
from dagster_project.cluster.ray_nodes import nodes_of_driver
from dagster_project.runs.secrets import redacted
from lwf_assets.study.study import Study

RETRIES = 2
"""How often Ray starts a cell again whose process or node died: as often as Dagster does under its daemon."""


class Tasks:
    """Those of one build.

    Args:
        ray: the module, connected.
        study: what is built.
        wanted: what every node must have.
    """

    def __init__(self, ray: Any, study: Study, wanted: Setup) -> None:
        from ray.util.queue import Queue

        self._ray, self._study = ray, study
        self._build = uuid.uuid4().hex
        self._wanted = ray.put(wanted)
        # On the head node, without which there is no cluster; another node may go down.
        self._messages = Queue(actor_options={"num_cpus": 0, "resources": {"node:__internal_head__": 0.001}})
        self._on_cpus = ray.remote(make_cell)
        # A process that has used a GPU ends with its cell: the next one may be given another GPU, and torch looks once.
        self._on_gpus = ray.remote(num_gpus=1, max_calls=1)(make_cell)
        self._running: dict[Any, str] = {}

    def nodes(self) -> tuple[Node, ...]:
        """Those that are up now."""
        return nodes_of_driver(self._ray.nodes())

    def problems_of(self, nodes: Iterable[Node]) -> list[str]:
        """Ask each node whether it would make what was planned; returns what those say that would not."""
        asked = self._of_each(nodes, problem_of_node, self._build, self._study, self._wanted)
        return [f"node {node.name}: {answer}" for node, answer in asked if answer is not None]

    def unsent_of(self, nodes: Iterable[Node]) -> list[str]:
        """Have each node send to MLflow what it did not know yet; returns what those say that could not."""
        asked = self._of_each(nodes, send_what_is_left_here)
        return [f"node {node.name}: {answer}" for node, answer in asked if answer is not None]

    def launch(self, order: CellOrder, needs: Needs) -> None:
        """Queue a cell."""
        task = self._on_gpus if needs.gpus else self._on_cpus
        name = str(order.cell)
        options = {"num_cpus": needs.cpus, "num_gpus": needs.gpus, "memory": needs.memory}
        made = task.options(name=name, max_retries=RETRIES, **options)
        self._running[made.remote(self._build, order, self._wanted, self._messages)] = name

    def ended(self, seconds: float) -> list[tuple[str, Ended | str]]:
        """The cells that have ended, after waiting for the first of them for so long at most: each with what its
        process returned, or why it could not."""
        ready, _ = self._ray.wait(list(self._running), num_returns=1, timeout=seconds)
        if ready:  # and those that ended together with it
            ready, _ = self._ray.wait(list(self._running), num_returns=len(self._running), timeout=0)
        return [(self._running.pop(task), self._outcome(task)) for task in ready]

    def messages(self) -> list[Message]:
        """What was said since the last look."""
        count = self._messages.qsize()
        found: list[Message] = self._messages.get_nowait_batch(count) if count else []
        return found

    def cancel(self) -> None:
        """End those that run, each as Ctrl-C would, and forget the others."""
        for task in self._running:
            self._ray.cancel(task)

    def _outcome(self, task: Any) -> Ended | str:
        try:
            ended: Ended = self._ray.get(task)
            return ended
        except self._ray.exceptions.RayTaskError as error:
            return redacted(f"{type(error.cause).__name__}: {error.cause}\n{error}")
        except self._ray.exceptions.RayError as error:
            said = str(error).strip().partition("\n")[0]
            return f"it was started {RETRIES + 1} times, and its process or its node died each time ({said})"

    def _of_each(self, nodes: Iterable[Node], ask: Callable[..., Any], *arguments: Any) -> list[tuple[Node, Any]]:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        asked = {
            node: self._ray.remote(num_cpus=0)(ask)
            .options(scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False), max_retries=0)
            .remote(*arguments)
            for node in nodes
        }
        return [(node, self._answer(task)) for node, task in asked.items()]

    def _answer(self, task: Any) -> Any:
        try:
            return self._ray.get(task)
        except self._ray.exceptions.RayError as error:
            lines = str(getattr(error, "cause", None) or error).strip().splitlines()
            return redacted(f"it cannot run this build: {lines[-1]}")
