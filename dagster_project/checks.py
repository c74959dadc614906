"""The blocking asset checks: Dagster's face of `lwf_assets.checks`."""

# No `from __future__ import annotations` here: Dagster reads the annotations of the decorated functions as objects.

import dagster as dg

from dagster_project.partitions import partitions_definitions
from dagster_project.resources import LwfHome
from lwf_assets.checks import CHECKS, Check
from lwf_assets.graph import ASSET, Cell, specs_of
from lwf_assets.partition import Partition
from lwf_assets.study import Study


def build_checks(study: Study) -> list[dg.AssetChecksDefinition]:
    """Every check of the study's assets."""
    present = {spec.name for spec in specs_of(study)}
    return [_build_check(study, check) for check in CHECKS if check.asset in present]


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
        from lwf_assets.judge import judge

        key = context.partition_key if spec.dimensions else None
        verdict = judge(study, home.place().store, Cell(check.asset, Partition.of_key(spec.dimensions, key)), check)
        return dg.AssetCheckResult(passed=verdict.passed, description=verdict.reason, metadata=verdict.figures)

    return run_check
