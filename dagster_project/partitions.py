"""Dagster's partitions, made from the study's tasks."""

from __future__ import annotations

import dagster as dg

from lwf_assets.graph import ASSET
from lwf_assets.partition import FORGETTING_TASK, LEARNING_TASK, Partition
from lwf_assets.study import Study

JOB_OF_DIMENSIONS = {
    (): "unpartitioned",
    (LEARNING_TASK,): "by_learning_task",
    (FORGETTING_TASK,): "by_forgetting_task",
    (FORGETTING_TASK, LEARNING_TASK): "by_cell",
}
"""One job per partition definition: a Dagster run carries one partition key."""


def partitions_definitions(study: Study) -> dict[tuple[str, ...], dg.PartitionsDefinition[str] | None]:
    """The partitions definition of each combination of dimensions."""
    learning = dg.StaticPartitionsDefinition(list(study.learning_names))
    forgetting = dg.StaticPartitionsDefinition(list(study.forgetting_names))
    return {
        (): None,
        (LEARNING_TASK,): learning,
        (FORGETTING_TASK,): forgetting,
        (FORGETTING_TASK, LEARNING_TASK): dg.MultiPartitionsDefinition(
            {FORGETTING_TASK: forgetting, LEARNING_TASK: learning}
        ),
    }


def partition_of_key(dimensions: tuple[str, ...], key: str | None) -> Partition:
    """The partition that a Dagster key names; in a two-dimensional key the forgetting task comes first."""
    names = key.split("|") if key is not None else []
    return Partition(**dict(zip(dimensions, names, strict=True)))


def dependency(upstream: str, downstream: str) -> dg.AssetDep:
    """The edge from one asset to another, with the mapping between their partitions."""
    here, there = ASSET[downstream].dimensions, ASSET[upstream].dimensions
    if len(here) == 2 and len(there) == 1:
        return dg.AssetDep(upstream, partition_mapping=dg.MultiToSingleDimensionPartitionMapping(there[0]))
    return dg.AssetDep(upstream)
