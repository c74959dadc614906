"""The asset graph: what there is, what each thing is made from, and which settings it reads.

This table is the whole design of the data flow. The planner, the builder and the Dagster definitions all read it; the
work itself is in the module that bears the asset's name. No heavy import here: it is read whenever a code location
loads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from lwf_assets.model_source import source_fingerprint
from lwf_assets.partition import FORGETTING_TASK, LEARNING_TASK, Partition
from lwf_assets.store import canonical_hash
from lwf_assets.study import MIXED, Study
from lwf_assets.tasks.task import Task

Settings = dict[str, Any]
HashFile = Callable[[Path], str]


@dataclass(frozen=True)
class AssetSpec:
    """One row of the table.

    `settings` are those that all partitions share; `own_settings` those of one partition, such as its task's source.
    Only what decides the contents belongs there: a batch size that changes nothing but speed does not.
    `checked_with` names assets that the blocking checks read beside this one; they are built before it.
    Raise `code_version` when the code comes to give other contents for the same settings and inputs.
    """

    name: str
    dimensions: tuple[str, ...]
    inputs: tuple[str, ...]
    code_version: str
    settings: Callable[[Study], Settings] = lambda study: {}
    own_settings: Callable[[Study, Partition, HashFile], Settings] = lambda study, partition, hash_file: {}
    checked_with: tuple[str, ...] = ()


def _fields(section: BaseModel, *, without: tuple[str, ...] = ()) -> Settings:
    return section.model_dump(mode="json", exclude=set(without))


def _context(study: Study) -> Settings:
    return _fields(study.model, without=("source", "dtype", "token_budget"))


def _training(study: Study) -> Settings:
    return {
        "context": _context(study),
        "training": _fields(study.training, without=("checkpoint_every",)),
        "seeds": list(study.seeds),
    }


def _scoring(study: Study, partition: Partition) -> Settings:
    assert partition.learning_task is not None
    task = study.learning_tasks[partition.learning_task]
    return {"scorer": task.scorer, "stop": list(task.stop), "max_new_tokens": task.max_new_tokens}


def _learning_fingerprint(part: str) -> Callable[[Study, Partition, HashFile], Settings]:
    def fingerprint(study: Study, partition: Partition, hash_file: HashFile) -> Settings:
        name = partition.learning_task
        assert name is not None
        task = Task(name, study.learning_tasks[name])
        return {"task": task.fingerprint(part, hash_file=hash_file)}  # type: ignore[arg-type]

    return fingerprint


def _prompts_fingerprint(study: Study, partition: Partition, hash_file: HashFile) -> Settings:
    names = source_tasks(study, partition)
    return {"tasks": {n: Task(n, study.forgetting_tasks[n]).fingerprint("prompts", hash_file=hash_file) for n in names}}


def _selection(study: Study) -> Settings:
    chosen = _fields(study.confidence, without=("alpha", "loss_reduction", "seed"))
    seed = {"seed": study.confidence.seed} if study.confidence.end == "random" else {}
    return {"alpha": study.alpha, **chosen, **seed}


BOTH = (FORGETTING_TASK, LEARNING_TASK)

ASSETS: tuple[AssetSpec, ...] = (
    AssetSpec(
        "base_model",
        dimensions=(),
        inputs=(),
        code_version="1",
        settings=lambda study: {"dtype": study.model.dtype},
        own_settings=lambda study, partition, hash_file: {"source": source_fingerprint(study.model.source, hash_file)},
    ),
    AssetSpec(
        "learning_data",
        dimensions=(LEARNING_TASK,),
        inputs=(),
        code_version="1",
        own_settings=_learning_fingerprint("learning"),
    ),
    AssetSpec(
        "test_data",
        dimensions=(LEARNING_TASK,),
        inputs=(),
        code_version="1",
        own_settings=_learning_fingerprint("test"),
        checked_with=("learning_data",),
    ),
    AssetSpec(
        "forgetting_prompts",
        dimensions=(FORGETTING_TASK,),
        inputs=(),
        code_version="1",
        own_settings=_prompts_fingerprint,
    ),
    AssetSpec(
        "self_generated_corpus",
        dimensions=(FORGETTING_TASK,),
        inputs=("base_model", "forgetting_prompts"),
        code_version="1",
        settings=lambda study: {"context": _context(study), "generation": _fields(study.generation)},
    ),
    AssetSpec(
        "reference_checkpoint",
        dimensions=(LEARNING_TASK,),
        inputs=("base_model", "learning_data"),
        code_version="1",
        settings=lambda study: {**_training(study), "reference": _fields(study.reference)},
    ),
    AssetSpec(
        "fisher_diagonal",
        dimensions=(LEARNING_TASK,),
        inputs=("reference_checkpoint", "learning_data"),
        code_version="2",
        settings=lambda study: {"context": _context(study), "fisher": _fields(study.fisher)},
    ),
    AssetSpec(
        "confidence_terms",
        dimensions=BOTH,
        inputs=("base_model", "reference_checkpoint", "fisher_diagonal", "self_generated_corpus"),
        code_version="2",
        settings=lambda study: {"loss_reduction": study.confidence.loss_reduction},
    ),
    AssetSpec(
        "scored_forget_set",
        dimensions=BOTH,
        inputs=("confidence_terms",),
        code_version="1",
        settings=_selection,
    ),
    AssetSpec(
        "lwf_checkpoint",
        dimensions=BOTH,
        inputs=("base_model", "learning_data", "scored_forget_set"),
        code_version="2",
        settings=lambda study: {**_training(study), "unlearning": _fields(study.unlearning)},
    ),
    AssetSpec(
        "eval_report",
        dimensions=BOTH,
        # The forget set decides the LWF checkpoint already, so reading it here as well makes nothing stale that was
        # not.
        inputs=(
            "base_model",
            "reference_checkpoint",
            "lwf_checkpoint",
            "test_data",
            "forgetting_prompts",
            "scored_forget_set",
        ),
        code_version="1",
        settings=lambda study: {
            "context": _context(study),
            "evaluation": _fields(study.evaluation, without=("batch_size",)),
            "response_tokens": study.generation.max_new_tokens,
        },
        own_settings=lambda study, partition, hash_file: _scoring(study, partition),
    ),
    AssetSpec("leaderboard", dimensions=(), inputs=("eval_report",), code_version="1"),
)

ASSET: dict[str, AssetSpec] = {spec.name: spec for spec in ASSETS}


@dataclass(frozen=True, order=True)
class Cell:
    """One partition of one asset: the unit that is planned, built and stored."""

    asset: str
    partition: Partition

    @property
    def spec(self) -> AssetSpec:
        """The asset's row of the table."""
        return ASSET[self.asset]

    def __str__(self) -> str:
        return f"{self.asset}[{self.partition.key}]" if self.partition.key else self.asset


def source_tasks(study: Study, partition: Partition) -> tuple[str, ...]:
    """The forgetting tasks behind a partition: itself, or all of them for `mixed`."""
    assert partition.forgetting_task is not None
    if partition.forgetting_task == MIXED:
        return tuple(study.forgetting_tasks)
    return (partition.forgetting_task,)


def partitions(study: Study, dimensions: tuple[str, ...]) -> tuple[Partition, ...]:
    """Every partition along `dimensions`, in the study's order. A task is never forgotten while it is learned."""
    forgetting = study.forgetting_names if FORGETTING_TASK in dimensions else (None,)
    learning = study.learning_names if LEARNING_TASK in dimensions else (None,)
    grid = (Partition(f, learned) for learned in learning for f in forgetting)
    return tuple(p for p in grid if p.learning_task is None or p.learning_task != p.forgetting_task)


def cells(study: Study) -> tuple[Cell, ...]:
    """Every cell of the study, each after all that it is made from."""
    return tuple(Cell(spec.name, partition) for spec in ASSETS for partition in partitions(study, spec.dimensions))


def inputs_of(study: Study, cell: Cell) -> tuple[Cell, ...]:
    """The cells that `cell` is made from."""
    return tuple(_named(study, cell, cell.spec.inputs))


def checked_with(study: Study, cell: Cell) -> tuple[Cell, ...]:
    """The cells that the checks of `cell` read beside it."""
    return tuple(_named(study, cell, cell.spec.checked_with))


def _named(study: Study, cell: Cell, names: tuple[str, ...]) -> Iterator[Cell]:
    for name in names:
        wider = set(ASSET[name].dimensions) - set(cell.spec.dimensions)
        if wider:  # the leaderboard reads every report
            yield from (Cell(name, partition) for partition in partitions(study, ASSET[name].dimensions))
        else:
            yield Cell(name, cell.partition.narrowed(ASSET[name].dimensions))


def settings_of(study: Study, cell: Cell, hash_file: HashFile) -> Settings:
    """All settings that decide the cell's contents."""
    return {**cell.spec.settings(study), **cell.spec.own_settings(study, cell.partition, hash_file)}


def asset_code_version(study: Study, spec: AssetSpec) -> str:
    """The code version that Dagster shows: the asset's code constant with the settings that all its partitions share.

    A partition's own settings (its task's source) are left out, so that a new task leaves the others fresh; the planner
    compares those partition by partition.
    """
    return f"{spec.code_version}-{canonical_hash(spec.settings(study))[:12]}"
