"""Which settings decide the contents of which asset: exactly those, as JSON objects.

Two equal objects stand for equal contents (of equal inputs, by equal code), so a setting that changes nothing but speed
does not enter.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from lwf_assets.errors import LwfError
from lwf_assets.extensions import origin_of
from lwf_assets.graph.models import find
from lwf_assets.store.partition import Partition
from lwf_assets.study.model_source import source_fingerprint
from lwf_assets.study.sections import ConfidenceSettings, UnlearningSettings
from lwf_assets.study.study import MIXED, Study
from lwf_assets.tasks.settings import FileSource, TaskSettings
from lwf_assets.tasks.task import Task

JsonSettings = dict[str, Any]
HashFile = Callable[[Path], str]


def fields_of(section: BaseModel, *, without: tuple[str, ...] = ()) -> JsonSettings:
    """A section of the study as JSON."""
    return section.model_dump(mode="json", exclude=set(without))


def context_settings(study: Study) -> JsonSettings:
    """How long a row may be, and what happens to one that is longer."""
    elsewhere = ("source", "dtype", "prior", "adapter", "token_budget", "chat_template", "tf32")
    return fields_of(study.model, without=elsewhere) | _tf32(study)


def terms_settings(study: Study) -> JsonSettings:
    """How the terms of the forgetting confidence are computed."""
    precision = study.confidence.precision
    chosen = {} if precision == "float32" else {"precision": precision}
    return {"loss_reduction": study.confidence.loss_reduction, **chosen, **space_settings(study), **_tf32(study)}


def _tf32(study: Study) -> JsonSettings:
    """Only where it is asked for: recipes that were made before there was a choice stay what they are."""
    return {"tf32": True} if study.model.tf32 else {}


def training_settings(study: Study) -> JsonSettings:
    """What every fine-tune of the study reads."""
    return {
        "context": context_settings(study),
        "training": fields_of(study.training, without=("checkpoint_every",)),
        "seeds": list(study.seeds),
        **({} if study.model.adapter is None else {"adapter": fields_of(study.model.adapter)}),
    }


def space_settings(study: Study) -> JsonSettings:
    """What FC is over. Nothing where it is over all parameters: studies without adapters keep their recipes."""
    return {} if study.confidence_space is None else {"space": study.confidence_space}


def unlearning_settings(unlearning: UnlearningSettings) -> JsonSettings:
    """How D_U is unlearned; with the package of an objective that is not built in."""
    origin = origin_of("lwf.objectives", unlearning.objective)
    return fields_of(unlearning) | ({} if origin is None else {"objective_package": origin})


def base_settings(study: Study, prior: str | None, hash_file: HashFile) -> JsonSettings:
    """Where a base comes from, and what it is taught before the study begins."""
    settings: JsonSettings = {"source": source_fingerprint(study.model.source, hash_file)}
    if (template := study.model.chat_template) is not None:
        if not template.is_file():
            raise LwfError(f"model.chat_template: {template}: the file does not exist")
        settings["chat_template"] = hash_file(template)
    if prior is not None:
        taught = study.priors[prior]
        settings["prior"] = {
            "context": context_settings(study),
            "tasks": {
                name: Task(name, task).fingerprint("learning", hash_file=hash_file)
                for name, task in taught.tasks.items()
            },
            "training": fields_of(taught.training, without=("checkpoint_every", "validate_every", "log_every")),
            "seed": taught.seed,
        }
    return settings


def arm_settings(study: Study, partition: Partition, hash_file: HashFile) -> JsonSettings:
    """What one arm says and inherits."""
    arm = find(study, partition).arm
    assert arm is not None
    own = fields_of(arm, without=("learning_tasks", "forgetting_tasks"))
    # What it inherits from the study counts as much as what it says.
    if (confidence := arm.confidence_settings(study.confidence)) is not None:
        own["confidence"] = selection_settings(study, confidence)
    if (unlearning := arm.unlearning_settings(study.unlearning)) is not None:
        own["unlearning"] = unlearning_settings(unlearning)
    if arm.follows_unlearning_interval:
        own["interval"] = study.unlearning.interval
    return {"arm": own}


def utility_fingerprint(study: Study, partition: Partition, hash_file: HashFile) -> JsonSettings:
    """What decides the rows that are measured in addition to the learning task."""
    text = study.evaluation.neutral_text
    return {
        "neutral_text": None if text is None else hash_file(text),
        "tasks": {
            f"{group}/{name}": Task(name, task).fingerprint("test", hash_file=hash_file)
            for group, tasks in utility_tasks(study).items()
            for name, task in tasks.items()
        },
    }


def utility_scoring(study: Study) -> JsonSettings:
    """How those rows are answered."""
    return {
        f"{group}/{name}": {"stop": list(task.stop), "max_new_tokens": task.max_new_tokens}
        for group, tasks in utility_tasks(study).items()
        for name, task in tasks.items()
    }


def scoring_settings(study: Study, partition: Partition) -> JsonSettings:
    """How the test rows of a learning task are answered and scored."""
    assert partition.learning_task is not None
    task = study.learning_tasks[partition.learning_task]
    origin = origin_of("lwf.scorers", task.scorer)
    package = {} if origin is None else {"scorer_package": origin}
    return {"scorer": task.scorer, **package, "stop": list(task.stop), "max_new_tokens": task.max_new_tokens}


def learning_fingerprint(part: str) -> Callable[[Study, Partition, HashFile], JsonSettings]:
    """What decides one part of a learning task's rows, as a function of the cell."""

    def fingerprint(study: Study, partition: Partition, hash_file: HashFile) -> JsonSettings:
        name = partition.learning_task
        assert name is not None
        task = Task(name, study.learning_tasks[name])
        return {"task": task.fingerprint(part, hash_file=hash_file)}  # type: ignore[arg-type]

    return fingerprint


def prompts_fingerprint(study: Study, partition: Partition, hash_file: HashFile) -> JsonSettings:
    """What decides the prompts of a forgetting task, or of all for `mixed`."""
    names = source_tasks(study, partition)
    return {"tasks": {n: Task(n, study.forgetting_tasks[n]).fingerprint("prompts", hash_file=hash_file) for n in names}}


def selection_settings(study: Study, confidence: ConfidenceSettings | None = None) -> JsonSettings:
    """What decides FC, its ranking and D_U."""
    confidence = confidence or study.confidence
    chosen = fields_of(confidence, without=("alpha", "loss_reduction", "precision", "seed", "space"))
    seed = {"seed": confidence.seed} if confidence.end == "random" else {}
    return {"alpha": study.alpha_of(confidence), **chosen, **seed}


def source_tasks(study: Study, partition: Partition) -> tuple[str, ...]:
    """The forgetting tasks behind a partition: itself, or all of them for `mixed`."""
    assert partition.forgetting_task is not None
    if partition.forgetting_task == MIXED:
        return tuple(study.forgetting_tasks)
    return (partition.forgetting_task,)


def utility_tasks(study: Study) -> dict[str, dict[str, TaskSettings]]:
    """What is scored in addition to the learning task, by group: what the forgetting tasks themselves are scored on,
    where they have it, and tasks that are neither learned nor forgotten."""
    forgetting = {name: task for name, task in study.forgetting_tasks.items() if _has_test_rows(task)}
    return {"forgetting": forgetting, "untouched": dict(study.evaluation.untouched_tasks)}


def has_utility_data(study: Study) -> bool:
    """Whether the study measures anything in addition to the learning task."""
    return study.evaluation.neutral_text is not None or any(utility_tasks(study).values())


def _has_test_rows(task: TaskSettings) -> bool:
    return not isinstance(task.source, FileSource) or task.source.test is not None
