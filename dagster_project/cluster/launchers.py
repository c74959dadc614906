"""How Dagster's run launchers are told what a run needs: by tags of the run, in the words of each launcher."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field

import dagster as dg
from dagster._core.launcher import RunLauncher

from dagster_project.cluster.machine_needs import Needs, needs_of_machine, problem_of_size
from dagster_project.cluster.ray_nodes import nodes_of_job_server
from dagster_project.runs.instance import launches_elsewhere
from lwf_assets.errors import LwfError
from lwf_assets.graph.cells import Cell
from lwf_assets.planning.forecast import foresee
from lwf_assets.planning.plan import Action, Plan, Step
from lwf_assets.store.store import Store
from lwf_assets.study.study import Study

RAY_LAUNCHER, K8S_LAUNCHER = "RayRunLauncher", "K8sRunLauncher"
RAY_TAG, K8S_TAG = "dagster-ray/config", "dagster-k8s/config"
CELLS_ON = "LWF_CELLS_ON"
"""Where pods compute with a model: `gpus` (if it is not set) or `cpus`. A Ray cluster is asked instead."""


@dataclass(frozen=True)
class Placement:
    """The tags of the runs that can be launched, and why others cannot."""

    tags: dict[Cell, dict[str, str]] = field(default_factory=dict)
    problems: tuple[str, ...] = ()


def place(study: Study, store: Store, plan: Plan, steps: Iterable[Step], instance: dg.DagsterInstance) -> Placement:
    """What the instance's launcher is to be told of the runs of some of the plan's steps.

    Raises:
        LwfError: the cluster does not answer, or `LWF_CELLS_ON` is neither of its values.
    """
    steps = tuple(steps)
    if not launches_elsewhere(instance) or not steps:
        return Placement({step.cell: {} for step in steps})
    launcher = instance.run_launcher
    nodes = nodes_of_job_server(str(getattr(launcher, "address", ""))) if _is_a(launcher, RAY_LAUNCHER) else ()
    on_gpus = any(node.gpus for node in nodes) if nodes else _pods_on_gpus()
    foreseen = foresee(study, store, only(plan, steps)).steps
    threads = threads_of_a_process()
    tags, problems = dict[Cell, dict[str, str]](), list[str]()
    for step in steps:
        needs = needs_of_machine(study, step, foreseen.get(step.cell), on_gpus=on_gpus, threads=threads)
        problem = problem_of_size(step.cell, needs, nodes) if nodes else None
        if problem is None:
            tags[step.cell] = tags_of(launcher, needs)
        else:
            problems.append(problem)
    return Placement(tags, tuple(problems))


def tags_of(launcher: RunLauncher, needs: Needs) -> dict[str, str]:
    """Of a run that needs so much; none for a launcher that starts processes on this machine."""
    if _is_a(launcher, RAY_LAUNCHER):
        asked = {"num_cpus": needs.cpus, "num_gpus": needs.gpus, "memory": needs.memory}
        return {RAY_TAG: json.dumps(asked)}
    if _is_a(launcher, K8S_LAUNCHER):
        # Kubernetes wants a GPU as a limit, which stands for the request too.
        limits = {"limits": {"nvidia.com/gpu": needs.gpus}} if needs.gpus else {}
        resources = {"requests": {"cpu": str(needs.cpus), "memory": str(needs.memory)}, **limits}
        return {K8S_TAG: json.dumps({"container_config": {"resources": resources}})}
    return {}


def only(plan: Plan, steps: Iterable[Step]) -> Plan:
    """The plan without the work of others: its estimates take as long as there are steps that do work."""
    wanted = {step.cell for step in steps}
    return Plan(tuple(step for step in plan.steps if step.action != Action.MAKE or step.cell in wanted))


def threads_of_a_process() -> int:
    """CPU cores that a process computes with on a cluster without GPUs: as many as `OMP_NUM_THREADS` says, or one."""
    first = (os.environ.get("OMP_NUM_THREADS") or "1").partition(",")[0]
    return max(1, int(first)) if first.isdigit() else 1


def _pods_on_gpus() -> bool:
    value = os.environ.get(CELLS_ON) or "gpus"
    if value not in ("gpus", "cpus"):
        raise LwfError(f"{CELLS_ON}={value}: write gpus or cpus")
    return value == "gpus"


def _is_a(launcher: RunLauncher, name: str) -> bool:
    """By name, for the packages that have them need not be installed."""
    return any(kind.__name__ == name for kind in type(launcher).__mro__)
