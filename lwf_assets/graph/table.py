"""The assets: what each is made from, which settings decide it, and how it is shown. One row per asset.

This table is the whole design of the data flow. Planner, builder, cost, SQL views, MLflow and the Dagster definitions
all read it; the work itself is in the module of `lwf_assets/assets/` that is named as the asset. No heavy import here:
it is read whenever a code location loads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from lwf_assets.graph.inputs import (
    is_probed,
    read_by_arm,
    read_by_evaluation,
    read_by_fisher,
    read_by_leaderboard,
    read_by_probe,
    read_by_report,
)
from lwf_assets.graph.models import find
from lwf_assets.graph.settings import (
    HashFile,
    JsonSettings,
    arm_settings,
    base_settings,
    context_settings,
    fields_of,
    has_utility_data,
    learning_fingerprint,
    prompts_fingerprint,
    scoring_settings,
    selection_settings,
    space_settings,
    terms_settings,
    training_settings,
    unlearning_settings,
    utility_fingerprint,
    utility_scoring,
)
from lwf_assets.store import layout
from lwf_assets.store.partition import ARM, FORGETTING_TASK, LEARNING_TASK, MODEL, PRIOR, Partition
from lwf_assets.study.study import Study

SOURCES = "1_sources"
SELF_KNOWLEDGE = "2_self_knowledge"
CONFIDENCE = "3_forgetting_confidence"
TRAINING = "4_training"
EVALUATION = "5_evaluation"
"""The groups of the Dagster UI, in the order in which it sorts them."""


@dataclass(frozen=True)
class AssetSpec:
    """One row of the table.

    `inputs` are the assets that it is made from: of each, the one cell whose coordinates it shares, or those that
    `read_from` returns. `settings` are those that all partitions share; `own_settings` those of one partition, such as
    its task's source. Only what decides the contents belongs there: a batch size that changes nothing but speed does
    not. `is_wanted` says whether the study asks for a partition. `checked_with` names assets that the blocking checks
    read in addition to this one; they are built before it. Raise `code_version` when the code starts to produce other
    contents from the same settings and inputs (see CONTRIBUTING.md).

    The rest is for people and for tracking. `group`, `kinds` and `description` are shown in the Dagster UI. An asset
    that `uses_model` takes a place in the pool of the device. `table` is its main Parquet file, which the view of the
    asset's name shows, and `columns` those of its columns that are shown as a sample; `page` is its HTML page, which
    its MLflow run keeps too. A table that `is_dataset` is logged to MLflow as a data set.
    """

    name: str
    dimensions: tuple[str, ...]
    inputs: tuple[str, ...]
    code_version: str
    settings: Callable[[Study], JsonSettings] = lambda study: {}
    own_settings: Callable[[Study, Partition, HashFile], JsonSettings] = lambda study, partition, hash_file: {}
    read_from: Callable[[Study, Partition, str], Iterable[Partition]] | None = None
    checked_with: tuple[str, ...] = ()
    is_wanted: Callable[[Study, Partition], bool] = lambda study, partition: True

    group: str = EVALUATION
    kinds: tuple[str, ...] = ()
    description: str = ""
    uses_model: bool = False
    table: str | None = None
    columns: tuple[str, ...] = ()
    page: str | None = None
    is_dataset: bool = False


BOTH = (FORGETTING_TASK, LEARNING_TASK)

ASSETS: tuple[AssetSpec, ...] = (
    AssetSpec(
        "base_model",
        dimensions=(),
        inputs=(),
        code_version="2",
        settings=lambda study: {"dtype": study.model.dtype},
        own_settings=lambda study, partition, hash_file: base_settings(study, study.model.prior, hash_file),
        group=SOURCES,
        kinds=("huggingface", "pytorch"),
        description="The pre-trained model that learns and forgets, as a safetensors directory with its tokenizer.",
        uses_model=True,
    ),
    AssetSpec(
        "control_base",
        dimensions=(PRIOR,),
        inputs=(),
        code_version="2",
        settings=lambda study: {"dtype": study.model.dtype},
        own_settings=lambda study, partition, hash_file: base_settings(study, partition.prior, hash_file),
        group=SOURCES,
        kinds=("huggingface", "pytorch"),
        description="The pre-trained model with other prior knowledge: where control arms start.",
        uses_model=True,
    ),
    AssetSpec(
        "learning_data",
        dimensions=(LEARNING_TASK,),
        inputs=(),
        code_version="3",
        own_settings=learning_fingerprint("learning"),
        group=SOURCES,
        kinds=("huggingface", "parquet"),
        description="What is learned (D_L): training and validation rows of the learning task.",
        table=layout.TRAIN_ROWS,
        columns=("id", "prompt", "target"),
        is_dataset=True,
    ),
    AssetSpec(
        "test_data",
        dimensions=(LEARNING_TASK,),
        inputs=(),
        code_version="3",
        own_settings=learning_fingerprint("test"),
        checked_with=("learning_data",),
        group=SOURCES,
        kinds=("huggingface", "parquet"),
        description="What the learning task is tested on. Apart from learning_data: a new test set retrains nothing.",
        table=layout.TEST_ROWS,
        columns=("id", "prompt", "answer"),
        is_dataset=True,
    ),
    AssetSpec(
        "forgetting_prompts",
        dimensions=(FORGETTING_TASK,),
        inputs=(),
        code_version="3",
        own_settings=prompts_fingerprint,
        group=SOURCES,
        kinds=("parquet",),
        description="Prompts of the forgetting task (D_F). They need no answers: the model writes its own.",
        table=layout.PROMPTS,
        columns=("id", "prompt", "source_task"),
        is_dataset=True,
    ),
    AssetSpec(
        "utility_data",
        dimensions=(),
        inputs=(),
        code_version="3",
        own_settings=utility_fingerprint,
        is_wanted=lambda study, partition: has_utility_data(study),
        group=SOURCES,
        kinds=("parquet",),
        description="What should not get worse: the forgetting tasks' own tests, untouched tasks, neutral text.",
        table=layout.UTILITY_ITEMS,
        columns=("group", "task", "id", "prompt", "answer"),
    ),
    AssetSpec(
        "self_generated_corpus",
        dimensions=(FORGETTING_TASK,),
        inputs=("base_model", "forgetting_prompts"),
        code_version="3",
        settings=lambda study: {
            "context": context_settings(study),
            "generation": fields_of(study.generation, without=("batch_size",)),
        },
        group=SELF_KNOWLEDGE,
        kinds=("parquet", "pytorch"),
        description="The base model's responses to the forgetting prompts (D_self): a proxy for what it knows.",
        uses_model=True,
        table=layout.CORPUS,
        columns=("id", "prompt", "response", "tokens", "ended"),
        is_dataset=True,
    ),
    AssetSpec(
        "reference_checkpoint",
        dimensions=(LEARNING_TASK,),
        inputs=("base_model", "learning_data"),
        code_version="3",
        settings=lambda study: {**training_settings(study), "reference": fields_of(study.reference)},
        group=TRAINING,
        kinds=("huggingface", "pytorch"),
        description="The plain fine-tune, per seed: the baseline, and the learning task's optimum theta_L*.",
        uses_model=True,
    ),
    AssetSpec(
        "fisher_diagonal",
        dimensions=(LEARNING_TASK,),
        inputs=("base_model", "reference_checkpoint", "learning_data"),
        code_version="3",
        settings=lambda study: {
            "context": context_settings(study),
            "fisher": fields_of(study.fisher),
            **space_settings(study),
        },
        read_from=read_by_fisher,
        group=CONFIDENCE,
        kinds=("pytorch",),
        description="Diagonal Fisher information of the learning task at theta_L*: mean squared per-sample gradients.",
        uses_model=True,
    ),
    AssetSpec(
        "confidence_terms",
        dimensions=BOTH,
        inputs=("base_model", "reference_checkpoint", "fisher_diagonal", "self_generated_corpus"),
        code_version="2",
        settings=terms_settings,
        group=CONFIDENCE,
        kinds=("parquet", "pytorch"),
        description="The terms of each sample's forgetting confidence: the expensive part, valid for any alpha.",
        uses_model=True,
        table=layout.CONFIDENCE_TERMS,
        columns=("id", "constant", "linear", "quadratic", "nll", "tokens"),
    ),
    AssetSpec(
        "scored_forget_set",
        dimensions=BOTH,
        inputs=("confidence_terms",),
        code_version="1",
        settings=selection_settings,
        group=CONFIDENCE,
        kinds=("duckdb", "parquet"),
        description="Forgetting confidence, rank and selection (D_U): one query, so a new alpha costs seconds.",
        table=layout.FORGET_SET,
        columns=("rank", "selected", "forgetting_confidence", "linear", "quadratic", "prompt", "response"),
        is_dataset=True,
    ),
    AssetSpec(
        "lwf_checkpoint",
        dimensions=BOTH,
        inputs=("base_model", "learning_data", "scored_forget_set"),
        code_version="4",
        settings=lambda study: {**training_settings(study), "unlearning": unlearning_settings(study.unlearning)},
        group=TRAINING,
        kinds=("huggingface", "mlflow", "pytorch"),
        description="The fine-tune that unlearns D_U on the way, per seed, with the ledger of what was unlearned when.",
        uses_model=True,
    ),
    AssetSpec(
        "arm_checkpoint",
        dimensions=(ARM, LEARNING_TASK),
        inputs=("base_model", "control_base", "learning_data", "confidence_terms", "lwf_checkpoint"),
        code_version="2",
        settings=training_settings,
        own_settings=arm_settings,
        read_from=read_by_arm,
        group=TRAINING,
        kinds=("huggingface", "pytorch"),
        description="What is compared with the reference and LWF, per seed: ablations, baselines and controls.",
        uses_model=True,
    ),
    AssetSpec(
        "evaluation",
        dimensions=(LEARNING_TASK, MODEL),
        inputs=(
            "base_model",
            "control_base",
            "reference_checkpoint",
            "lwf_checkpoint",
            "arm_checkpoint",
            "test_data",
            "self_generated_corpus",
            "forgetting_prompts",
            "utility_data",
        ),
        code_version="3",
        settings=lambda study: {
            "context": context_settings(study),
            "response_examples": study.evaluation.response_examples,
            "response_tokens": study.generation.max_new_tokens,
            "utility": utility_scoring(study),
        },
        own_settings=lambda study, partition, hash_file: scoring_settings(study, partition),
        read_from=read_by_evaluation,
        group=EVALUATION,
        kinds=("parquet", "pytorch"),
        description="What one model does: test items, D_self, untouched tasks, neutral text, distance from the base.",
        uses_model=True,
        table=layout.EVALUATED_ITEMS,
        columns=("seed", "id", "prompt", "answer", "response", "accuracy", "target_nll"),
    ),
    AssetSpec(
        "forgetting_probe",
        dimensions=(LEARNING_TASK, MODEL),
        inputs=(
            "base_model",
            "control_base",
            "reference_checkpoint",
            "lwf_checkpoint",
            "arm_checkpoint",
            "scored_forget_set",
        ),
        code_version="3",
        settings=lambda study: {
            "context": context_settings(study),
            "probe": fields_of(study.probe, without=("models",)) if study.probe else None,
        },
        read_from=read_by_probe,
        is_wanted=lambda study, partition: is_probed(study, find(study, partition).name),
        group=EVALUATION,
        kinds=("parquet", "pytorch"),
        description="Is it really forgotten? Relearning speed, rounded weights, another form of the prompt.",
        uses_model=True,
        table=layout.PROBES,
        columns=("seed", "forgetting_task", "probe", "step", "variant", "nll"),
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
        group=EVALUATION,
        kinds=("parquet",),
        description="Does forgetting help? LWF and every arm against the reference, with intervals; an HTML page.",
        table=layout.EFFECTS,
        columns=("model", "measure", "difference", "low", "high", "verdict"),
        page=layout.REPORT_PAGE,
    ),
    AssetSpec(
        "leaderboard",
        dimensions=(),
        inputs=("eval_report",),
        code_version="2",
        read_from=read_by_leaderboard,
        group=EVALUATION,
        kinds=("parquet",),
        description="The paper's table: learning task by forgetting task.",
        table=layout.LEADERBOARD,
        columns=("learning_task", "forgetting_task", "reference", "lwf", "difference", "verdict"),
        page=layout.LEADERBOARD_PAGE,
    ),
)

ASSET: dict[str, AssetSpec] = {spec.name: spec for spec in ASSETS}
