"""Dagster's partitions, made from the study's tasks."""

from __future__ import annotations

import dagster as dg

from lwf_assets.graph.cells import Cell, inputs_of, partitions_of
from lwf_assets.graph.partitions import partitions
from lwf_assets.graph.table import ASSET
from lwf_assets.store.partition import ARM, FORGETTING_TASK, LEARNING_TASK, MODEL, PRIOR
from lwf_assets.study.study import Study

JOB_OF_DIMENSIONS = {
    (): "unpartitioned",
    (LEARNING_TASK,): "by_learning_task",
    (FORGETTING_TASK,): "by_forgetting_task",
    (FORGETTING_TASK, LEARNING_TASK): "by_cell",
    (ARM, LEARNING_TASK): "by_arm",
    (LEARNING_TASK, MODEL): "by_model",
    (PRIOR,): "by_prior",
}
"""One job per partition definition: a Dagster run carries one partition key."""


def partitions_definitions(study: Study) -> dict[tuple[str, ...], dg.PartitionsDefinition[str] | None]:
    """The partitions definition of each combination of dimensions."""
    learning = dg.StaticPartitionsDefinition(list(study.learning_names))
    forgetting = dg.StaticPartitionsDefinition(list(study.forgetting_names))
    arms = dg.StaticPartitionsDefinition(_keys(study, (ARM, LEARNING_TASK), ARM))
    models = dg.StaticPartitionsDefinition(_keys(study, (LEARNING_TASK, MODEL), MODEL))
    return {
        (): None,
        (PRIOR,): dg.StaticPartitionsDefinition(_keys(study, (PRIOR,), PRIOR)),
        (ARM, LEARNING_TASK): dg.MultiPartitionsDefinition({ARM: arms, LEARNING_TASK: learning}),
        (LEARNING_TASK, MODEL): dg.MultiPartitionsDefinition({LEARNING_TASK: learning, MODEL: models}),
        (LEARNING_TASK,): learning,
        (FORGETTING_TASK,): forgetting,
        (FORGETTING_TASK, LEARNING_TASK): dg.MultiPartitionsDefinition(
            {FORGETTING_TASK: forgetting, LEARNING_TASK: learning}
        ),
    }


def dependency(study: Study, upstream: str, downstream: str) -> dg.AssetDep:
    """The edge from one asset to another, with the mapping between their partitions."""
    here, there = ASSET[downstream].dimensions, ASSET[upstream].dimensions
    if here == there or not here or not there:
        return dg.AssetDep(upstream)
    if len(here) == 2 and len(there) == 1 and there[0] in here:
        return dg.AssetDep(upstream, partition_mapping=dg.MultiToSingleDimensionPartitionMapping(there[0]))
    if len(here) == len(there) == 2:
        return dg.AssetDep(upstream, partition_mapping=_between_grids(study, upstream, downstream))
    return dg.AssetDep(upstream, partition_mapping=dg.AllPartitionMapping())


def _between_grids(study: Study, upstream: str, downstream: str) -> dg.MultiPartitionMapping:
    """Equal learning tasks; and of arms, models and forgetting tasks those that are made from each other."""
    (there,), (here,) = (
        [name for name in ASSET[asset].dimensions if name != LEARNING_TASK] for asset in (upstream, downstream)
    )
    pairs: dict[str, set[str]] = {}
    for partition in partitions_of(study, ASSET[downstream]):
        for needed in inputs_of(study, Cell(downstream, partition)):
            if needed.asset == upstream:
                pairs.setdefault(getattr(needed.partition, there), set()).add(getattr(partition, here))
    between = dg.StaticPartitionMapping({key: sorted(values) for key, values in pairs.items()})
    return dg.MultiPartitionMapping(
        {
            LEARNING_TASK: dg.DimensionPartitionMapping(LEARNING_TASK, dg.IdentityPartitionMapping()),
            there: dg.DimensionPartitionMapping(here, between),
        }
    )


def _keys(study: Study, dimensions: tuple[str, ...], dimension: str) -> list[str]:
    return list(dict.fromkeys(getattr(partition, dimension) for partition in partitions(study, dimensions)))
