"""The Dagster assets: those of the graph's table that the study has, with what a person wants to read in the UI."""

# No `from __future__ import annotations` here: Dagster reads the annotations of the decorated functions as objects.

from dataclasses import dataclass
from typing import Any

import dagster as dg

from dagster_project.partitions import dependency, partitions_definitions
from dagster_project.resources import LwfHome, MlflowTracking
from dagster_project.runs.failures import told_to_dagster
from lwf_assets.cost.cell_cost import WITH_MODEL
from lwf_assets.graph.table import AssetSpec, Cell, asset_code_version, specs_of, upstream_of
from lwf_assets.store.partition import Partition
from lwf_assets.study.study import Study

FORCE_TAG = "lwf/force"
"""Run tag: names of assets, separated by commas, that are made anew although the store has them."""

DEVICE_POOL = "device"
"""The pool of steps that compute with a model: the instance says how many may run at once."""

OWNERS = ["team:learning-with-forgetting"]


@dataclass(frozen=True)
class _Shown:
    """How an asset is presented."""

    group: str
    kinds: frozenset[str]
    description: str


_SHOWN = {
    "base_model": _Shown(
        "1_what_there_is",
        frozenset({"huggingface", "pytorch"}),
        "The pre-trained model that learns and forgets, as a safetensors directory with its tokenizer.",
    ),
    "control_base": _Shown(
        "1_what_there_is",
        frozenset({"huggingface", "pytorch"}),
        "The pre-trained model with other prior knowledge: where control arms start from.",
    ),
    "learning_data": _Shown(
        "1_what_there_is",
        frozenset({"parquet", "huggingface"}),
        "What is learned (D_L): training and validation rows of the learning task.",
    ),
    "test_data": _Shown(
        "1_what_there_is",
        frozenset({"parquet", "huggingface"}),
        "What the learning task is measured on. Apart from learning_data, so that a new test set retrains nothing.",
    ),
    "forgetting_prompts": _Shown(
        "1_what_there_is",
        frozenset({"parquet"}),
        "Prompts of the forgetting task (D_F). They need no answers: the model gives its own.",
    ),
    "utility_data": _Shown(
        "1_what_there_is",
        frozenset({"parquet"}),
        "What should not suffer: the forgetting tasks' own tests, untouched tasks, neutral text.",
    ),
    "self_generated_corpus": _Shown(
        "2_what_it_knows",
        frozenset({"parquet", "pytorch"}),
        "What the base model itself says to the forgetting prompts (D_self): a proxy for what it knows.",
    ),
    "reference_checkpoint": _Shown(
        "2_what_it_knows",
        frozenset({"huggingface", "pytorch"}),
        "The vanilla fine-tune, per seed: the baseline, and the learning task's optimum theta_L*.",
    ),
    "fisher_diagonal": _Shown(
        "3_what_conflicts",
        frozenset({"pytorch"}),
        "Diagonal Fisher information of the learning task at theta_L*: the mean of squared per-sample gradients.",
    ),
    "confidence_terms": _Shown(
        "3_what_conflicts",
        frozenset({"parquet", "pytorch"}),
        "The three terms of every self-generated sample's forgetting confidence: the expensive part, free of alpha.",
    ),
    "scored_forget_set": _Shown(
        "3_what_conflicts",
        frozenset({"duckdb", "parquet"}),
        "Forgetting confidence, rank and selection (D_U): one query, so a new alpha costs seconds.",
    ),
    "lwf_checkpoint": _Shown(
        "4_what_was_forgotten",
        frozenset({"huggingface", "pytorch", "mlflow"}),
        "The fine-tune that unlearns D_U as it goes, per seed, with the ledger of what was unlearned when.",
    ),
    "arm_checkpoint": _Shown(
        "4_what_was_forgotten",
        frozenset({"huggingface", "pytorch"}),
        "What is trained beside the reference and LWF, per seed: ablations, baselines and controls.",
    ),
    "evaluation": _Shown(
        "5_what_came_of_it",
        frozenset({"parquet", "pytorch"}),
        "What one model does: test items, its own samples, untouched tasks, neutral text, distance from the base.",
    ),
    "forgetting_probe": _Shown(
        "5_what_came_of_it",
        frozenset({"parquet", "pytorch"}),
        "Is it really forgotten? Relearning speed, rounded weights, another form of the prompt.",
    ),
    "eval_report": _Shown(
        "5_what_came_of_it",
        frozenset({"parquet"}),
        "Does forgetting help? LWF and every arm against the reference, with intervals; one self-contained HTML page.",
    ),
    "leaderboard": _Shown(
        "5_what_came_of_it",
        frozenset({"parquet"}),
        "The paper's table: learning task by forgetting task.",
    ),
}


def build_assets(study: Study, *, pooled: bool = True) -> list[dg.AssetsDefinition]:
    """Every asset of the study; `pooled` says whether those that compute with a model take turns."""
    return [_build_asset(study, spec, pooled=pooled) for spec in specs_of(study)]


def _build_asset(study: Study, spec: AssetSpec, *, pooled: bool) -> dg.AssetsDefinition:
    shown = _SHOWN[spec.name]

    @dg.asset(
        name=spec.name,
        deps=[dependency(study, upstream, spec.name) for upstream in upstream_of(study, spec)],
        partitions_def=partitions_definitions(study)[spec.dimensions],
        group_name=shown.group,
        kinds=set(shown.kinds),
        owners=OWNERS,
        description=shown.description,
        code_version=asset_code_version(study, spec),
        pool=DEVICE_POOL if pooled and spec.name in WITH_MODEL else None,
    )
    def materialize_cell(
        context: dg.AssetExecutionContext, home: LwfHome, tracking: MlflowTracking
    ) -> dg.MaterializeResult[Any]:
        # Imported when a step runs: loading the definitions must stay light.
        from dagster_project.ui.metadata import metadata_of
        from lwf_assets.building.materialize import materialize
        from lwf_assets.progress import Several

        cell = Cell(spec.name, Partition.of_key(spec.dimensions, context.partition_key if spec.dimensions else None))
        place = home.place()
        forced = spec.name in context.run.tags.get(FORCE_TAG, "").split(",")
        with told_to_dagster(context), tracking.cell_run(context, study, cell) as tracked:
            materialized = materialize(
                study,
                place.store,
                cell,
                force=forced,
                progress=Several(tracked.curves, home.progress(str(cell))),
                provenance={"dagster_run": context.run_id, "mlflow_run": tracked.run_id},
                file_hash=place.file_hashes,
            )
            tracked.log(materialized)
        artifact = materialized.artifact
        context.log.info(
            f"{cell}: {'taken from the store' if materialized.reused else 'made'}, version {artifact.version}"
        )
        return dg.MaterializeResult(
            data_version=dg.DataVersion(artifact.version),
            metadata={
                **tracked.links,
                **metadata_of(artifact, reused=materialized.reused),
            },
        )

    return materialize_cell
