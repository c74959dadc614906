"""Which cells a cell is made from, for assets whose cells have different kinds of inputs.

One function per asset: of one of its inputs, the partitions that a cell reads. Coordinates that the input does not have
are removed by the caller.
"""

from __future__ import annotations

from collections.abc import Iterable

from lwf_assets.graph.models import Compared, compared_in, find
from lwf_assets.graph.partitions import partitions
from lwf_assets.graph.settings import has_utility_data
from lwf_assets.store.partition import FORGETTING_TASK, LEARNING_TASK, Partition
from lwf_assets.study.study import Study


def read_by_arm(study: Study, partition: Partition, asset: str) -> Iterable[Partition]:
    """An arm: what its kind says."""
    model = find(study, partition)
    if model.arm is not None and asset in model.arm.inputs:
        yield Partition(model.forgetting_task, model.learning_task, prior=model.arm.taught_prior)


def read_by_evaluation(study: Study, partition: Partition, asset: str) -> Iterable[Partition]:
    """One model's evaluation: its own checkpoint, the test set, and the samples of its forgetting task; those of all,
    where it has none."""
    model = find(study, partition)
    if asset == model.checkpoint[0]:
        yield model.checkpoint[1]
    elif asset in ("test_data", "base_model"):  # the base is what distances are measured from
        yield Partition(learning_task=model.learning_task)
    elif asset in ("self_generated_corpus", "forgetting_prompts"):
        names = study.forgetting_names if model.forgetting_task is None else (model.forgetting_task,)
        yield from (Partition(name) for name in names if name != model.learning_task)
    elif asset == "utility_data" and has_utility_data(study):
        yield Partition()
    elif asset == "control_base":
        yield from _base_of_adapter(study, model, asset)


def read_by_probe(study: Study, partition: Partition, asset: str) -> Iterable[Partition]:
    """One model's probe: its own checkpoint, and what its forgetting task chose; what all chose, where it has none."""
    model = find(study, partition)
    if asset == model.checkpoint[0]:
        yield model.checkpoint[1]
    elif asset == "scored_forget_set":
        names = study.forgetting_names if model.forgetting_task is None else (model.forgetting_task,)
        yield from (Partition(name, model.learning_task) for name in names if name != model.learning_task)
    elif asset in ("base_model", "control_base"):
        yield from _base_of_adapter(study, model, asset)


def read_by_fisher(study: Study, partition: Partition, asset: str) -> Iterable[Partition]:
    """The Fisher diagonal: optimum and data; and the base, if the optimum is an adapter on it."""
    if asset != "base_model" or study.model.adapter is not None:
        yield partition


def _base_of_adapter(study: Study, model: Compared, asset: str) -> Iterable[Partition]:
    """What a checkpoint that is an adapter is opened on."""
    prior = None if model.arm is None else model.arm.taught_prior
    if study.model.adapter is not None and asset == ("base_model" if prior is None else "control_base"):
        yield Partition(prior=prior)


def read_by_report(study: Study, partition: Partition, asset: str) -> Iterable[Partition]:
    """A cell's report: the evaluations and probes of its models, and what LWF forgot."""
    if asset not in ("evaluation", "forgetting_probe"):
        yield partition
        return
    for model in compared_in(study, partition):
        if asset == "evaluation" or is_probed(study, model.name):
            yield Partition(model=model.key, learning_task=model.learning_task)


def read_by_leaderboard(study: Study, partition: Partition, asset: str) -> Iterable[Partition]:
    """The leaderboard: the report of every cell."""
    return partitions(study, (FORGETTING_TASK, LEARNING_TASK))


def is_probed(study: Study, name: str) -> bool:
    """Whether the study wants the model, or the arm, of this name probed."""
    return study.probe is not None and name in study.probe.models
