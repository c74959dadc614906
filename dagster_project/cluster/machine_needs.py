"""What a cell needs of the machine that makes it, by the plan's estimate, and whether a cluster has such a machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lwf_assets.building.work_order import computes_with_model, processes_of
from lwf_assets.cost.cell_cost import LIBRARIES
from lwf_assets.cost.free_memory import gigabytes
from lwf_assets.graph.cells import Cell
from lwf_assets.planning.forecast import Foreseen
from lwf_assets.planning.plan import Action, Step
from lwf_assets.study.study import Study


@dataclass(frozen=True)
class Needs:
    """CPU cores, GPUs, and bytes of the host's memory."""

    cpus: int
    gpus: int
    memory: int

    def __str__(self) -> str:
        return _told(self.cpus, self.gpus, self.memory)


@dataclass(frozen=True)
class Node:
    """A machine of a cluster, with all that it has; `name` is what its users call it."""

    id: str
    name: str
    cpus: float
    gpus: float
    memory: float

    def has(self, needs: Needs) -> bool:
        """Whether the cell would fit if nothing else ran there."""
        return self.cpus >= needs.cpus and self.gpus >= needs.gpus and self.memory >= needs.memory

    def __str__(self) -> str:
        return _told(self.cpus, self.gpus, self.memory)


def needs_of_machine(study: Study, step: Step, foreseen: Foreseen | None, *, on_gpus: bool, threads: int = 1) -> Needs:
    """What making a cell needs.

    Args:
        study: what is wanted; `compute.processes` is how many processes share a step that computes with a model.
        step: of the plan.
        foreseen: the plan's estimate of the step, if it has one.
        on_gpus: whether what computes with a model does so on GPUs, each process on one of its own.
        threads: CPU cores that each process computes with where there are none.
    """
    estimate = None if foreseen is None else foreseen.memory
    memory = max(LIBRARIES, estimate or 0)
    if step.action != Action.MAKE or not computes_with_model(study, step.cell):
        return Needs(1, 0, memory)
    processes = processes_of(study, step.cell)
    if on_gpus:  # the estimate is of the GPU's memory
        return Needs(processes, processes, processes * LIBRARIES)
    return Needs(processes * threads, 0, processes * memory)


def problem_of_size(cell: Cell, needs: Needs, nodes: Sequence[Node]) -> str | None:
    """Why no node could make the cell, with what to do; None if one could."""
    if any(node.has(needs) for node in nodes):
        return None
    largest = max(nodes, key=lambda node: (node.gpus, node.cpus, node.memory))
    if max(node.gpus for node in nodes) < needs.gpus:
        remedy = "add a node with more GPUs or lower compute.processes"
    elif max(node.cpus for node in nodes) < needs.cpus:
        remedy = "add a node with more CPUs or lower compute.processes or OMP_NUM_THREADS"
    elif max(node.memory for node in nodes) < needs.memory:
        remedy = "add a node with more memory or take a smaller model.source or smaller batches"
    else:
        remedy = "add a node that has all of it or lower compute.processes"
    has = f"the largest, {largest.name}, has {largest}"
    return f"{cell} needs {needs}, which no node of the cluster has; {has}. Either {remedy}"


def _told(cpus: float, gpus: float, memory: float) -> str:
    cards = [f"{gpus:g} GPU{'s' * (gpus != 1)}"] if gpus else []
    return ", ".join([*cards, f"{cpus:g} CPU{'s' * (cpus != 1)}"]) + f" and {gigabytes(memory)} of memory"
