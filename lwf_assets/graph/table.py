"""The asset graph: what there is, what each thing is made from, and which settings it reads.

This table is the whole design of the data flow. The planner, the builder and the Dagster definitions all read it; the
work itself is in the module that bears the asset's name. No heavy import here: it is read whenever a code location
loads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from lwf_assets.graph.inputs import is_probed, read_by_arm, read_by_evaluation, read_by_probe, read_by_report
from lwf_assets.graph.models import compared, find
from lwf_assets.graph.settings import (
    HashFile,
    Settings,
    arm_settings,
    base_settings,
    context_settings,
    fields_of,
    has_utility_data,
    learning_fingerprint,
    prompts_fingerprint,
    scoring_settings,
    selection_settings,
    training_settings,
    utility_fingerprint,
    utility_scoring,
)
from lwf_assets.store.hashes import canonical_hash
from lwf_assets.store.partition import ARM, FORGETTING_TASK, LEARNING_TASK, MODEL, PRIOR, Partition
from lwf_assets.study.study import Study


@dataclass(frozen=True)
class AssetSpec:
    """One row of the table.

    `inputs` are the assets that it is made from: of each the one cell whose coordinates it shares, or as `read_from`
    says, for those assets whose cells are not all made from the same.
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
    read_from: Callable[[Study, Partition, str], Iterable[Partition]] | None = None
    checked_with: tuple[str, ...] = ()


BOTH = (FORGETTING_TASK, LEARNING_TASK)

ASSETS: tuple[AssetSpec, ...] = (
    AssetSpec(
        "base_model",
        dimensions=(),
        inputs=(),
        code_version="1",
        settings=lambda study: {"dtype": study.model.dtype},
        own_settings=lambda study, partition, hash_file: base_settings(study, study.model.prior, hash_file),
    ),
    AssetSpec(
        "control_base",
        dimensions=(PRIOR,),
        inputs=(),
        code_version="1",
        settings=lambda study: {"dtype": study.model.dtype},
        own_settings=lambda study, partition, hash_file: base_settings(study, partition.prior, hash_file),
    ),
    AssetSpec(
        "learning_data",
        dimensions=(LEARNING_TASK,),
        inputs=(),
        code_version="1",
        own_settings=learning_fingerprint("learning"),
    ),
    AssetSpec(
        "test_data",
        dimensions=(LEARNING_TASK,),
        inputs=(),
        code_version="1",
        own_settings=learning_fingerprint("test"),
        checked_with=("learning_data",),
    ),
    AssetSpec(
        "forgetting_prompts",
        dimensions=(FORGETTING_TASK,),
        inputs=(),
        code_version="1",
        own_settings=prompts_fingerprint,
    ),
    AssetSpec("utility_data", dimensions=(), inputs=(), code_version="1", own_settings=utility_fingerprint),
    AssetSpec(
        "self_generated_corpus",
        dimensions=(FORGETTING_TASK,),
        inputs=("base_model", "forgetting_prompts"),
        code_version="1",
        settings=lambda study: {"context": context_settings(study), "generation": fields_of(study.generation)},
    ),
    AssetSpec(
        "reference_checkpoint",
        dimensions=(LEARNING_TASK,),
        inputs=("base_model", "learning_data"),
        code_version="2",
        settings=lambda study: {**training_settings(study), "reference": fields_of(study.reference)},
    ),
    AssetSpec(
        "fisher_diagonal",
        dimensions=(LEARNING_TASK,),
        inputs=("reference_checkpoint", "learning_data"),
        code_version="2",
        settings=lambda study: {"context": context_settings(study), "fisher": fields_of(study.fisher)},
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
        settings=selection_settings,
    ),
    AssetSpec(
        "lwf_checkpoint",
        dimensions=BOTH,
        inputs=("base_model", "learning_data", "scored_forget_set"),
        code_version="3",
        settings=lambda study: {**training_settings(study), "unlearning": fields_of(study.unlearning)},
    ),
    AssetSpec(
        "arm_checkpoint",
        dimensions=(ARM, LEARNING_TASK),
        inputs=("base_model", "control_base", "learning_data", "confidence_terms", "lwf_checkpoint"),
        code_version="1",
        settings=training_settings,
        own_settings=arm_settings,
        read_from=read_by_arm,
    ),
    AssetSpec(
        "evaluation",
        dimensions=(LEARNING_TASK, MODEL),
        inputs=(
            "base_model",
            "reference_checkpoint",
            "lwf_checkpoint",
            "arm_checkpoint",
            "test_data",
            "self_generated_corpus",
            "forgetting_prompts",
            "utility_data",
        ),
        code_version="1",
        settings=lambda study: {
            "context": context_settings(study),
            "response_examples": study.evaluation.response_examples,
            "response_tokens": study.generation.max_new_tokens,
            "utility": utility_scoring(study),
        },
        own_settings=lambda study, partition, hash_file: scoring_settings(study, partition),
        read_from=read_by_evaluation,
    ),
    AssetSpec(
        "forgetting_probe",
        dimensions=(LEARNING_TASK, MODEL),
        inputs=("base_model", "reference_checkpoint", "lwf_checkpoint", "arm_checkpoint", "scored_forget_set"),
        code_version="1",
        settings=lambda study: {
            "context": context_settings(study),
            "probe": fields_of(study.probe, without=("models",)) if study.probe else None,
        },
        read_from=read_by_probe,
    ),
    AssetSpec(
        "eval_report",
        dimensions=BOTH,
        inputs=("evaluation", "forgetting_probe", "scored_forget_set", "lwf_checkpoint"),
        code_version="2",
        settings=lambda study: {
            "name": study.name,
            "alpha": study.alpha,
            **study.evaluation.model_dump(
                mode="json", include={"primary_measure", "learning_levels", "least_seeds", "known_conflicts"}
            ),
        },
        read_from=read_by_report,
    ),
    AssetSpec(
        "leaderboard",
        dimensions=(),
        inputs=("eval_report",),
        code_version="2",
        read_from=lambda study, partition, asset: partitions(study, BOTH),
    ),
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


def partitions(study: Study, dimensions: tuple[str, ...]) -> tuple[Partition, ...]:
    """Every partition along `dimensions`, in the study's order. A task is never forgotten while it is learned."""
    if PRIOR in dimensions:
        priors = dict.fromkeys(arm.taught_prior for arm in study.arms.values() if arm.taught_prior)
        return tuple(Partition(prior=prior) for prior in priors)
    if ARM in dimensions:
        return tuple(Partition(arm=e.key, learning_task=e.learning_task) for e in compared(study) if e.arm is not None)
    if MODEL in dimensions:
        return tuple(Partition(model=e.key, learning_task=e.learning_task) for e in compared(study))
    forgetting = study.forgetting_names if FORGETTING_TASK in dimensions else (None,)
    learning = study.learning_names if LEARNING_TASK in dimensions else (None,)
    grid = (Partition(f, learned) for learned in learning for f in forgetting)
    return tuple(p for p in grid if p.learning_task is None or p.learning_task != p.forgetting_task)


def partitions_of(study: Study, spec: AssetSpec) -> tuple[Partition, ...]:
    """Every partition that one asset has in the study; none where the study does not ask for the asset."""
    every = partitions(study, spec.dimensions)
    if spec.name == "utility_data":
        return every if has_utility_data(study) else ()
    if spec.name == "forgetting_probe":
        return tuple(p for p in every if is_probed(study, find(study, p).name))
    return every


def specs_of(study: Study) -> tuple[AssetSpec, ...]:
    """The assets that the study has any cell of."""
    return tuple(spec for spec in ASSETS if partitions_of(study, spec))


def cells(study: Study) -> tuple[Cell, ...]:
    """Every cell of the study, each after all that it is made from."""
    return tuple(Cell(spec.name, partition) for spec in ASSETS for partition in partitions_of(study, spec))


def inputs_of(study: Study, cell: Cell) -> tuple[Cell, ...]:
    """The cells that `cell` is made from."""
    read_from = cell.spec.read_from or _same_coordinates
    needed = (
        Cell(asset, partition.narrowed(ASSET[asset].dimensions))
        for asset in cell.spec.inputs
        for partition in read_from(study, cell.partition, asset)
    )
    return tuple(dict.fromkeys(needed))


def upstream_of(study: Study, spec: AssetSpec) -> tuple[str, ...]:
    """The assets that some cell of `spec` is made from: an arm may need none of what other kinds of arm need."""
    read = {needed.asset for p in partitions_of(study, spec) for needed in inputs_of(study, Cell(spec.name, p))}
    return tuple(name for name in spec.inputs if name in read)


def checked_with(study: Study, cell: Cell) -> tuple[Cell, ...]:
    """The cells that the checks of `cell` read beside it."""
    return tuple(Cell(name, cell.partition.narrowed(ASSET[name].dimensions)) for name in cell.spec.checked_with)


def _same_coordinates(study: Study, partition: Partition, asset: str) -> Iterator[Partition]:
    yield partition


def settings_of(study: Study, cell: Cell, hash_file: HashFile) -> Settings:
    """All settings that decide the cell's contents."""
    return {**cell.spec.settings(study), **cell.spec.own_settings(study, cell.partition, hash_file)}


def asset_code_version(study: Study, spec: AssetSpec) -> str:
    """The code version that Dagster shows: the asset's code constant with the settings that all its partitions share.

    A partition's own settings (its task's source) are left out, so that a new task leaves the others fresh; the planner
    compares those partition by partition.
    """
    return f"{spec.code_version}-{canonical_hash(spec.settings(study))[:12]}"
