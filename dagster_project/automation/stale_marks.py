"""The stale marker of the Dagster UI: a check on every asset that says which of its partitions are stale, and why.

Dagster's own marker reads fresh on partitioned assets, whatever changed; the planner knows better. The check blocks
nothing, because being stale is not an error. A sensor evaluates it when the plan changes; it can be run by hand too.
"""

# No `from __future__ import annotations` here: Dagster reads the annotations of the decorated functions as objects.

import dagster as dg

from dagster_project.automation.current_plan import plan_or_skip
from dagster_project.resources import LwfHome
from lwf_assets.disk.hashes import canonical_hash
from lwf_assets.graph.cells import specs_of
from lwf_assets.planning.plan import Action, Plan, Step, make_plan
from lwf_assets.study.study import Study

CHECK = "up_to_date"
SHOWN = 10
"""Partitions that are named; the others are counted."""


def build_freshness_checks(study: Study) -> list[dg.AssetChecksDefinition]:
    """The check of each asset of the study."""
    return [_build_check(study, spec.name) for spec in specs_of(study)]


def build_freshness_sensor(study: Study, interval: int) -> dg.SensorDefinition:
    """The sensor that evaluates all of them; `interval` in seconds."""

    @dg.sensor(
        name="mark_stale",
        minimum_interval_seconds=interval,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Marks the assets of which something is stale: see the check `up_to_date` of each.",
    )
    def mark_stale(context: dg.SensorEvaluationContext, home: LwfHome) -> dg.SensorResult:
        plan = plan_or_skip(study, home.place())
        if isinstance(plan, dg.SkipReason):
            return dg.SensorResult(skip_reason=plan)
        now = canonical_hash([[str(step.cell), step.action, step.reasons] for step in plan.steps])
        if now == context.cursor:
            return dg.SensorResult(skip_reason=dg.SkipReason(f"{len(plan.stale)} cells are stale, as before"))
        return dg.SensorResult(
            asset_events=[_evaluation(plan, spec.name) for spec in specs_of(study)],
            skip_reason=dg.SkipReason(f"{len(plan.stale)} cells are stale"),
            cursor=now,
        )

    return mark_stale


def _build_check(study: Study, asset: str) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=asset,
        name=CHECK,
        description="Whether study, code, data and inputs are still those that it was made with.",
        blocking=False,
    )
    def up_to_date(home: LwfHome) -> dg.AssetCheckResult:
        place = home.place()
        found = _evaluation(make_plan(study, place.store, place.file_hashes), asset)
        return dg.AssetCheckResult(
            passed=found.passed, severity=found.severity, description=found.description, metadata=found.metadata
        )

    return up_to_date


def _evaluation(plan: Plan, asset: str) -> dg.AssetCheckEvaluation:
    steps = [step for step in plan.steps if step.cell.asset == asset]
    stale = [step for step in steps if step.action != Action.NOTHING]
    return dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey(asset),
        check_name=CHECK,
        passed=not stale,
        severity=dg.AssetCheckSeverity.WARN,
        description=_words(steps, stale),
        metadata={"cells": len(steps), "stale": len(stale)},
    )


def _words(steps: list[Step], stale: list[Step]) -> str:
    if not stale:
        return f"all {len(steps)} cells are up to date"
    named = [f"{step.cell.partition}: {', '.join(step.reasons)}" for step in stale[:SHOWN]]
    more = [f"and {len(stale) - SHOWN} more"] if len(stale) > SHOWN else []
    return f"{len(stale)} of {len(steps)} cells are stale: " + "; ".join([*named, *more])
