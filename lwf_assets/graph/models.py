"""Which models a study compares, by what name, and which checkpoint each of them is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lwf_assets.store.partition import Partition
from lwf_assets.study.arms import Arm
from lwf_assets.study.study import BASE, LWF, REFERENCE, Study


@dataclass(frozen=True)
class Compared:
    """One model of the comparison on one learning task; `arm` is None for base, reference and LWF."""

    name: str
    learning_task: str
    forgetting_task: str | None = None
    arm: Arm | None = None

    @property
    def key(self) -> str:
        """`bss`, or with its forgetting task `lwf.dental`."""
        return self.name if self.forgetting_task is None else f"{self.name}.{self.forgetting_task}"

    @property
    def checkpoint(self) -> tuple[str, Partition]:
        """The asset and partition that hold its weights."""
        match self.name:
            case "base":
                return "base_model", Partition()
            case "reference":
                return "reference_checkpoint", Partition(learning_task=self.learning_task)
            case "lwf":
                return "lwf_checkpoint", Partition(self.forgetting_task, self.learning_task)
            case _:
                return "arm_checkpoint", Partition(arm=self.key, learning_task=self.learning_task)


def compared(study: Study) -> tuple[Compared, ...]:
    """All of them, in the order of the study: base, reference, LWF, arms."""
    return tuple(entry for learned in study.learning_names for entry in _of_learning_task(study, learned))


def compared_in(study: Study, cell: Partition) -> tuple[Compared, ...]:
    """Those that the report of one cell shows: the models of its forgetting task, and those that know of none."""
    assert cell.learning_task is not None
    of_task = _of_learning_task(study, cell.learning_task)
    return tuple(entry for entry in of_task if entry.forgetting_task in (None, cell.forgetting_task))


def find(study: Study, partition: Partition) -> Compared:
    """The one that a partition by arm or by model names; the partition must be one that the study has."""
    # Names of arms have no dot in them, so the first one ends the name.
    name, _, forgetting_task = (partition.arm or partition.model or "").partition(".")
    assert partition.learning_task is not None
    return Compared(name, partition.learning_task, forgetting_task or None, study.arms.get(name))


def _of_learning_task(study: Study, learned: str) -> Iterator[Compared]:
    forgotten = [name for name in study.forgetting_names if name != learned]
    yield Compared(BASE, learned)
    yield Compared(REFERENCE, learned)
    yield from (Compared(LWF, learned, name) for name in forgotten)
    for arm_name, arm in study.arms.items():
        if arm.learning_tasks is not None and learned not in arm.learning_tasks:
            continue
        if not arm.per_forgetting_task:
            yield Compared(arm_name, learned, arm=arm)
            continue
        wanted = arm.only_forgetting_tasks
        yield from (Compared(arm_name, learned, name, arm) for name in forgotten if wanted is None or name in wanted)
