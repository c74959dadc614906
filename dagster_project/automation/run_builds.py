"""The one sensor that runs unattended builds.

It opens a build for the newest request and launches one run per stale cell, each when everything that it is made from
is up to date and its checks passed. Requests that come while a build runs are answered by the next build, which mostly
finds nothing to do. What to launch is decided in `build_driver.py`.
"""

# No `from __future__ import annotations` here: Dagster reads the annotations of the decorated functions as objects.

from collections.abc import Sequence
from typing import TYPE_CHECKING

import dagster as dg

from dagster_project.automation.build_driver import BuildCursor, CellRun, NextRuns, RunState, decide
from dagster_project.automation.current_plan import plan_or_skip
from dagster_project.automation.tags import BUILD_TAG, CELL_TAG, INTERVAL, RECIPE_TAG, REQUEST_JOB, STUDY_TAG
from dagster_project.checks import blocking_keys
from dagster_project.cluster.launchers import place
from dagster_project.partitions import JOB_OF_DIMENSIONS
from dagster_project.resources import LwfHome
from dagster_project.runs.alive import fail_dead_runs
from lwf_assets.errors import LwfError
from lwf_assets.planning.plan import Step
from lwf_assets.study.study import Study

if TYPE_CHECKING:
    from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

WILL_RETRY_TAG = "dagster/will_retry"


def build_run_sensor(study: Study, jobs: "Sequence[UnresolvedAssetJobDefinition]") -> dg.SensorDefinition:
    """The sensor `run_builds`; `jobs` are those that make cells."""

    @dg.sensor(
        jobs=jobs,
        name="run_builds",
        minimum_interval_seconds=INTERVAL,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Runs the build that was requested: one run per stale cell, inputs first, past no failed check.",
    )
    def run_builds(context: dg.SensorEvaluationContext, home: LwfHome) -> dg.SensorResult:
        fail_dead_runs(context.instance, home.place())
        at = _opened(context.instance, study, BuildCursor.from_cursor(context.cursor))
        if at.build is None:
            return dg.SensorResult(skip_reason=dg.SkipReason("no build was requested"))
        plan = plan_or_skip(study, home.place())
        if isinstance(plan, dg.SkipReason):
            # The build stays open: a file that is being replaced is there at the next tick, and one that was lost is
            # reported at every tick until it is back.
            return dg.SensorResult(skip_reason=plan, cursor=at.to_cursor())
        decision = decide(study, plan, _cell_runs(context.instance, at.build))
        if decision.is_over:
            return dg.SensorResult(skip_reason=dg.SkipReason(_outcome(decision)), cursor=at.closed().to_cursor())
        try:
            placement = place(study, home.place().store, plan, decision.launch, context.instance)
        except LwfError as error:  # the cluster may answer at the next tick
            return dg.SensorResult(skip_reason=dg.SkipReason(str(error)), cursor=at.to_cursor())
        # A cell that no machine has room for holds up nothing else, and is launched when there is one.
        for problem in placement.problems:
            context.log.warning(problem)
        if not placement.tags and placement.problems:
            skipped = dg.SkipReason("; ".join(placement.problems))
            return dg.SensorResult(skip_reason=skipped, cursor=at.to_cursor())
        launched = [step for step in decision.launch if step.cell in placement.tags]
        asked = [_run_of(study, step, at.build, placement.tags[step.cell]) for step in launched]
        return dg.SensorResult(run_requests=asked, cursor=at.to_cursor())

    return run_builds


def _opened(instance: dg.DagsterInstance, study: Study, at: BuildCursor) -> BuildCursor:
    """The build that is open; if none is, the one that was asked for last, whatever number of requests there were."""
    if at.build is not None:
        return at
    asked = dg.RunsFilter(job_name=REQUEST_JOB, tags={STUDY_TAG: study.name}, statuses=[dg.DagsterRunStatus.SUCCESS])
    new = [record for record in instance.get_run_records(asked, limit=20) if record.storage_id > at.seen]
    if not new:
        return at
    newest = max(new, key=lambda record: record.storage_id)
    return at.opened(newest.dagster_run.run_id, newest.storage_id)


def _cell_runs(instance: dg.DagsterInstance, build: str) -> list[CellRun]:
    """The runs of a build; of a run that was retried, the retry alone."""
    runs = [record.dagster_run for record in instance.get_run_records(dg.RunsFilter(tags={BUILD_TAG: build}))]
    retried = {run.parent_run_id for run in runs}
    return [CellRun(run.tags[CELL_TAG], run.tags[RECIPE_TAG], _state(run)) for run in runs if run.run_id not in retried]


def _state(run: dg.DagsterRun) -> RunState:
    if run.status == dg.DagsterRunStatus.SUCCESS:
        return RunState.SUCCEEDED
    if not run.is_finished or run.tags.get(WILL_RETRY_TAG) == "true":
        return RunState.ACTIVE
    return RunState.FAILED


def _run_of(study: Study, step: Step, build: str, placed: dict[str, str]) -> dg.RunRequest:
    name, recipe = str(step.cell), str(step.recipe)
    return dg.RunRequest(
        run_key=f"{build}/{name}/{recipe}",
        job_name=JOB_OF_DIMENSIONS[step.cell.spec.dimensions],
        partition_key=step.cell.partition.key,
        asset_selection=[dg.AssetKey(step.cell.asset)],
        asset_check_keys=blocking_keys(study, step.cell.asset),
        tags={BUILD_TAG: build, CELL_TAG: name, RECIPE_TAG: recipe, **placed},
    )


def _outcome(decision: NextRuns) -> str:
    outcomes = [f"{name} failed" for name in decision.failed] + [f"{name} is blocked" for name in decision.blocked]
    return f"the build has finished: {', '.join(outcomes) or 'everything is up to date'}"
