"""What runs by itself: a schedule and two sensors that ask for a build, and the one sensor that runs it.

Who asks launches a run of the job `request_build`, which looks up what is stale and says so. The sensor `run_builds`
sees it and launches one run per stale cell, each when all that it is made from is fresh and its checks passed. Requests
that come while a build runs are answered by the next one, which mostly finds nothing to do.
"""

# No `from __future__ import annotations` here: Dagster reads the annotations of the decorated functions as objects.

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

from dagster_project.automation.build_driver import BuildCursor, CellRun, NextRuns, RunState, decide
from dagster_project.automation.current_plan import plan_or_skip, present_study
from dagster_project.checks import blocking_keys
from dagster_project.partitions import JOB_OF_DIMENSIONS
from dagster_project.resources import LwfHome
from dagster_project.runs.failures import told_to_dagster
from lwf_assets.errors import LwfError
from lwf_assets.graph.cells import cells, settings_of
from lwf_assets.planning.plan import Step, make_plan
from lwf_assets.store.hashes import canonical_hash
from lwf_assets.store.home import Home
from lwf_assets.study.study import Study

if TYPE_CHECKING:
    from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

REQUEST_JOB = "request_build"
STUDY_TAG, ASKED_BY_TAG = "lwf/study", "lwf/asked_by"
"""Of the runs that ask."""
BUILD_TAG, CELL_TAG, RECIPE_TAG = "lwf/build", "lwf/cell", "lwf/recipe"
"""Of the runs of cells: the run that asked for the build, the cell, and the recipe that it had."""
INTERVAL = int(os.environ.get("LWF_SENSOR_SECONDS", "15"))
"""Seconds between two looks of a sensor; `$LWF_SENSOR_SECONDS` says otherwise."""

WILL_RETRY_TAG = "dagster/will_retry"


def build_automation(
    study: Study, jobs: "Sequence[UnresolvedAssetJobDefinition]"
) -> tuple[dg.JobDefinition, list[dg.ScheduleDefinition], list[dg.SensorDefinition]]:
    """The job that asks, the schedule if the study has one, and the sensors; `jobs` are those that make cells.

    Raises:
        LwfError: the study's cron expression is none.
    """
    request = _request_job(study)
    schedules = [_schedule(study, request)] if study.automation.cron is not None else []
    return (
        request,
        schedules,
        [_run_builds(study, jobs), _watch_data(study, request), _build_when_stale(study, request)],
    )


def _request_job(study: Study) -> dg.JobDefinition:
    @dg.op(name="look_for_what_is_stale", description="Plans the build that `run_builds` will run.")
    def look(context: dg.OpExecutionContext, home: LwfHome) -> None:
        with told_to_dagster(context):
            place = home.place()
            plan = make_plan(study, place.store, place.file_hashes)
        for step in (*plan.stale, *plan.blocked):
            context.log.info(f"{step.cell}: {step.action.value}: {'; '.join(step.reasons)}")
        figures = {"stale": len(plan.stale), "blocked": len(plan.blocked), "cells": len(plan.steps)}
        context.add_output_metadata(figures)

    @dg.job(
        name=REQUEST_JOB,
        description=f"Asks for a build of {study.name}: all that is stale is made anew.",
        tags={STUDY_TAG: study.name},
    )
    def request_build() -> None:
        look()

    return request_build


def _schedule(study: Study, request: dg.JobDefinition) -> dg.ScheduleDefinition:
    cron, timezone = study.automation.cron, study.automation.timezone
    assert cron is not None

    def scheduled_build(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        at = context.scheduled_execution_time.isoformat()
        return dg.RunRequest(run_key=at, tags={ASKED_BY_TAG: "schedule"})

    try:
        return dg.schedule(
            job=request,
            name="scheduled_build",
            cron_schedule=cron,
            execution_timezone=timezone,
            description=f"Asks for a build at {cron} ({timezone}).",
            default_status=dg.DefaultScheduleStatus.RUNNING,
        )(scheduled_build)
    except dg.DagsterInvalidDefinitionError:
        raise LwfError(
            f"automation.cron: {cron!r} is no cron expression; write five fields such as '0 3 * * 1'"
        ) from None


def _watch_data(study: Study, request: dg.JobDefinition) -> dg.SensorDefinition:
    on = study.automation.watch_data
    status = dg.DefaultSensorStatus.RUNNING if on else dg.DefaultSensorStatus.STOPPED

    @dg.sensor(
        job=request,
        name="watch_data",
        minimum_interval_seconds=INTERVAL,
        default_status=status,
        description="Asks for a build when the content of a file that the study reads has changed, and stays so.",
    )
    def watch_data(context: dg.SensorEvaluationContext, home: LwfHome) -> dg.SensorResult:
        """The cursor: the content that was last seen settled, the one that was seen last, and a count of changes."""
        try:
            now = _content_hash(present_study(study), home.place())
        except (LwfError, OSError) as error:  # half written, perhaps: the next look will tell
            return dg.SensorResult(skip_reason=dg.SkipReason(str(error)))
        settled, last, count = json.loads(context.cursor) if context.cursor else (now, now, 0)
        if now == settled or now != last:  # nothing new; or new since the last look: it may still be written to
            words = "no file has changed" if now == settled else "a file has changed: waiting for it to settle"
            return dg.SensorResult(skip_reason=dg.SkipReason(words), cursor=json.dumps([settled, now, count]))
        asked = dg.RunRequest(run_key=f"data-{count}-{now[:16]}", tags={ASKED_BY_TAG: "changed data"})
        return dg.SensorResult(run_requests=[asked], cursor=json.dumps([now, now, count + 1]))

    return watch_data


def _build_when_stale(study: Study, request: dg.JobDefinition) -> dg.SensorDefinition:
    @dg.sensor(
        job=request,
        name="build_when_stale",
        minimum_interval_seconds=INTERVAL,
        default_status=dg.DefaultSensorStatus.STOPPED,
        description="Asks for a build whenever anything is stale: once for each state of study, code and data.",
    )
    def build_when_stale(context: dg.SensorEvaluationContext, home: LwfHome) -> dg.SensorResult:
        plan = plan_or_skip(study, home.place())
        if isinstance(plan, dg.SkipReason):
            return dg.SensorResult(skip_reason=plan)
        if not plan.stale:
            return dg.SensorResult(skip_reason=dg.SkipReason("nothing is stale"))
        wanted = _wanted_hash(present_study(study), home.place())
        if wanted == context.cursor:
            words = f"{len(plan.stale)} cells are stale, and a build was asked for already"
            return dg.SensorResult(skip_reason=dg.SkipReason(words))
        asked = dg.RunRequest(run_key=None, tags={ASKED_BY_TAG: "stale cells"})
        return dg.SensorResult(run_requests=[asked], cursor=wanted)

    return build_when_stale


def _run_builds(study: Study, jobs: "Sequence[UnresolvedAssetJobDefinition]") -> dg.SensorDefinition:
    @dg.sensor(
        jobs=jobs,
        name="run_builds",
        minimum_interval_seconds=INTERVAL,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Runs the build that was asked for: one run per stale cell, inputs first, past no failed check.",
    )
    def run_builds(context: dg.SensorEvaluationContext, home: LwfHome) -> dg.SensorResult:
        at = _opened(context.instance, study, BuildCursor.from_cursor(context.cursor))
        if at.build is None:
            return dg.SensorResult(skip_reason=dg.SkipReason("no build was asked for"))
        plan = plan_or_skip(study, home.place())
        if isinstance(plan, dg.SkipReason):
            # The build stays open: a file that is being replaced is there at the next tick, and one that was lost is
            # told of at every tick until somebody brings it back.
            return dg.SensorResult(skip_reason=plan, cursor=at.to_cursor())
        decision = decide(study, plan, _cell_runs(context.instance, at.build))
        if decision.is_over:
            return dg.SensorResult(skip_reason=dg.SkipReason(_outcome(decision)), cursor=at.closed().to_cursor())
        asked = [_run_of(study, step, at.build) for step in decision.launch]
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


def _run_of(study: Study, step: Step, build: str) -> dg.RunRequest:
    name, recipe = str(step.cell), str(step.recipe)
    return dg.RunRequest(
        run_key=f"{build}/{name}/{recipe}",
        job_name=JOB_OF_DIMENSIONS[step.cell.spec.dimensions],
        partition_key=step.cell.partition.key,
        asset_selection=[dg.AssetKey(step.cell.asset)],
        asset_check_keys=blocking_keys(study, step.cell.asset),
        tags={BUILD_TAG: build, CELL_TAG: name, RECIPE_TAG: recipe},
    )


def _outcome(decision: NextRuns) -> str:
    told = [f"{name} failed" for name in decision.failed] + [f"{name} is blocked" for name in decision.blocked]
    return f"the build is over: {', '.join(told) or 'everything is fresh'}"


def _content_hash(study: Study, home: Home) -> str:
    """Of every file that the study's sources name."""
    read: dict[str, str] = {}

    def file_hash(path: Path) -> str:
        read[str(path)] = home.file_hashes(path)
        return read[str(path)]

    for cell in cells(study):
        settings_of(study, cell, file_hash)
    return canonical_hash(read)


def _wanted_hash(study: Study, home: Home) -> str:
    """Of all that decides what a build gives: code, settings, and the content of files."""
    return canonical_hash(
        [[str(cell), cell.spec.code_version, settings_of(study, cell, home.file_hashes)] for cell in cells(study)]
    )
