"""What a cell writes to the disk, as far as it is certain, and a refusal where there is less."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from lwf_assets.cost.flops import training_steps
from lwf_assets.cost.model_size import ModelFacts, facts_of_study
from lwf_assets.cost.row_counts import Known, learning_amount
from lwf_assets.disk.room import size_as_text
from lwf_assets.errors import LwfError
from lwf_assets.graph.cells import Cell
from lwf_assets.graph.models import find
from lwf_assets.store.partition import Partition
from lwf_assets.study.study import Study

SMALL = 20_000
"""Bytes of the smallest artifact, with its manifests; tables and pages of large studies are larger."""


@dataclass(frozen=True)
class DiskSpace:
    """Bytes: of the artifact, and of what lies beside it while it is made."""

    kept: int
    meanwhile: int = 0

    @property
    def needed(self) -> int:
        """Both."""
        return self.kept + self.meanwhile


def disk_space_of(study: Study, cell: Cell, known: Known) -> DiskSpace:
    """What making `cell` surely writes, as far as it follows from the study and the `known` artifacts."""
    base = known(Cell("base_model", Partition())) if cell.asset != "base_model" else None
    facts = facts_of_study(study, None if base is None else base.path)
    if facts is None or not cell.spec.uses_model:
        return DiskSpace(SMALL)
    match cell.asset:
        case "base_model" | "control_base":
            return DiskSpace(facts.weight_bytes)
        case "fisher_diagonal":
            return DiskSpace(4 * facts.space(study))
        case "reference_checkpoint":
            models = len(study.seeds) + (study.reference.optimum != "end")
            return DiskSpace(models * facts.trained_bytes, _checkpoints(study, cell, known, facts, optimizers=1))
        case "lwf_checkpoint" | "arm_checkpoint":
            forgets = cell.asset == "lwf_checkpoint" or find(study, cell.partition).forgetting_task is not None
            adam = forgets and study.unlearning.optimizer == "adam"
            beside = _checkpoints(study, cell, known, facts, optimizers=1 + adam)
            return DiskSpace(len(study.seeds) * facts.trained_bytes, beside)
    return DiskSpace(SMALL)


def _checkpoints(study: Study, cell: Cell, known: Known, facts: ModelFacts, *, optimizers: int) -> int:
    """Training checkpoints of one seed, with the two moments of each Adam; two are kept, where there are as many."""
    assert cell.partition.learning_task is not None
    train, _ = learning_amount(study, cell.partition.learning_task, known)
    # None is written after the last step.
    count = ((training_steps(study.training, train) or 1) - 1) // study.training.checkpoint_every
    return min(count, 2) * facts.trained_bytes * (1 + 2 * optimizers)


def refuse_what_has_no_room(cell: Cell, space: DiskSpace, store: Path) -> None:
    """Stop before any work if the disk has less room than the cell needs.

    Raises:
        LwfError: what it needs, and what is free.
    """
    free = shutil.disk_usage(store).free
    if space.needed > free:
        raise LwfError(
            f"{cell} would not fit on the disk and was not started: it writes at least {size_as_text(space.needed)}, "
            f"and {size_as_text(free)} are free in {store}. `lwf gc` shows what may be removed"
        )
