"""The blocking asset checks of Dagster, from `lwf_assets.building.checks`."""

# No `from __future__ import annotations` here: Dagster reads the annotations of the decorated functions as objects.

import math
from collections.abc import Mapping
from typing import Any

import dagster as dg

from dagster_project.partitions import partitions_definitions
from dagster_project.resources import LwfHome, MlflowTracking
from dagster_project.runs.failures import told_to_dagster
from lwf_assets.building.checks import CHECKS, Check
from lwf_assets.graph.cells import Cell, specs_of
from lwf_assets.graph.table import ASSET
from lwf_assets.store.partition import Partition
from lwf_assets.study.study import Study

PROMOTION_CHECK = "not_worse_than_champion"


def build_checks(study: Study) -> list[dg.AssetChecksDefinition]:
    """Every check of the study's assets; with it the one that promotes, if the study says when."""
    present = {spec.name for spec in specs_of(study)}
    promoting = [] if study.promotion is None else [_build_promotion(study)]
    return [*(_build_check(study, check) for check in CHECKS if check.asset in present), *promoting]


def blocking_keys(study: Study, asset: str) -> list[dg.AssetCheckKey]:
    """The keys of all these checks of an asset, without the mark of what is stale: what a build runs."""
    names = [check.name for check in CHECKS if check.asset == asset]
    if asset == "eval_report" and study.promotion is not None:
        names.append(PROMOTION_CHECK)
    return [dg.AssetCheckKey(dg.AssetKey(asset), name) for name in names]


def _build_check(study: Study, check: Check) -> dg.AssetChecksDefinition:
    spec = ASSET[check.asset]

    @dg.asset_check(
        asset=check.asset,
        name=check.name,
        description=check.description,
        blocking=True,
        additional_deps=list(spec.checked_with),
        # Without it the result would be recorded for no partition.
        partitions_def=partitions_definitions(study)[spec.dimensions],
    )
    def run_check(context: dg.AssetCheckExecutionContext, home: LwfHome) -> dg.AssetCheckResult:
        from lwf_assets.building.check_runner import judge

        key = context.partition_key if spec.dimensions else None
        cell = Cell(check.asset, Partition.of_key(spec.dimensions, key))
        with told_to_dagster(context.op_execution_context):
            verdict = judge(study, home.place().store, cell, check)
        return dg.AssetCheckResult(passed=verdict.passed, description=verdict.reason, metadata=verdict.figures)

    return run_check


def _build_promotion(study: Study) -> dg.AssetChecksDefinition:
    spec = ASSET["eval_report"]

    @dg.asset_check(
        asset=spec.name,
        name=PROMOTION_CHECK,
        description="Only a model that is not worse than the champion takes its place in the registry.",
        blocking=True,
        partitions_def=partitions_definitions(study)[spec.dimensions],
    )
    def not_worse_than_champion(
        context: dg.AssetCheckExecutionContext, home: LwfHome, tracking: MlflowTracking
    ) -> dg.AssetCheckResult:
        from dagster_project.tracking.champions import RegistryAwayError, promote_challenger

        partition = Partition.of_key(spec.dimensions, context.partition_key)
        with told_to_dagster(context.op_execution_context):
            try:
                decision = promote_challenger(study, home.place(), tracking.uri, partition)
            except RegistryAwayError as error:
                # No build waits for MLflow, or fails by it.
                return dg.AssetCheckResult(passed=False, severity=dg.AssetCheckSeverity.WARN, description=str(error))
        return dg.AssetCheckResult(
            passed=decision.promote, description=decision.reason, metadata=_finite(decision.figures)
        )

    return not_worse_than_champion


def _finite(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Without the figures that there are none of: Dagster keeps metadata as JSON."""
    return {name: value for name, value in figures.items() if not (isinstance(value, float) and math.isnan(value))}
