"""What requests an unattended build: a schedule and two sensors.

Each launches a run of the job `request_build`, which plans what is stale and logs it. The sensor `run_builds` (see
`run_builds.py`) notices that run and builds.
"""

# No `from __future__ import annotations` here: Dagster reads the annotations of the decorated functions as objects.

import json
from pathlib import Path

import dagster as dg

from dagster_project.automation.current_plan import plan_or_skip, present_study
from dagster_project.automation.tags import ASKED_BY_TAG, INTERVAL, REQUEST_JOB, STUDY_TAG
from dagster_project.resources import LwfHome
from dagster_project.runs.failures import told_to_dagster
from lwf_assets.disk.hashes import canonical_hash
from lwf_assets.errors import LwfError
from lwf_assets.graph.cells import cells, settings_of
from lwf_assets.planning.plan import make_plan
from lwf_assets.store.home import Home
from lwf_assets.study.study import Study


def build_requests(
    study: Study,
) -> tuple[dg.JobDefinition, list[dg.ScheduleDefinition], list[dg.SensorDefinition]]:
    """The job that asks for a build, the schedule if the study has one, and the sensors that ask.

    Raises:
        LwfError: the study's `automation.cron` is not a cron expression.
    """
    request = _request_job(study)
    schedules = [_schedule(study, request)] if study.automation.cron is not None else []
    return request, schedules, [_watch_data(study, request), _build_when_stale(study, request)]


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
        description=f"Requests a build of {study.name}: everything that is stale is rebuilt.",
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
            description=f"Requests a build at {cron} ({timezone}).",
            default_status=dg.DefaultScheduleStatus.RUNNING,
        )(scheduled_build)
    except dg.DagsterInvalidDefinitionError:
        raise LwfError(
            f"automation.cron: {cron!r} is not a cron expression; write five fields such as '0 3 * * 1'"
        ) from None


def _watch_data(study: Study, request: dg.JobDefinition) -> dg.SensorDefinition:
    on = study.automation.watch_data
    status = dg.DefaultSensorStatus.RUNNING if on else dg.DefaultSensorStatus.STOPPED

    @dg.sensor(
        job=request,
        name="watch_data",
        minimum_interval_seconds=INTERVAL,
        default_status=status,
        description="Requests a build when the content of a file that the study reads has changed, and stays so.",
    )
    def watch_data(context: dg.SensorEvaluationContext, home: LwfHome) -> dg.SensorResult:
        """The cursor: the content that was last seen settled, the one that was seen last, and a count of changes."""
        try:
            now = _content_hash(present_study(study), home.place())
        except (LwfError, OSError) as error:  # half written, perhaps: the next tick tries again
            return dg.SensorResult(skip_reason=dg.SkipReason(str(error)))
        settled, last, count = json.loads(context.cursor) if context.cursor else (now, now, 0)
        if now == settled or now != last:  # nothing new; or new since the last tick: it may still be written to
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
        description="Requests a build whenever anything is stale: once for each state of study, code and data.",
    )
    def build_when_stale(context: dg.SensorEvaluationContext, home: LwfHome) -> dg.SensorResult:
        plan = plan_or_skip(study, home.place())
        if isinstance(plan, dg.SkipReason):
            return dg.SensorResult(skip_reason=plan)
        if not plan.stale:
            return dg.SensorResult(skip_reason=dg.SkipReason("nothing is stale"))
        wanted = _wanted_hash(present_study(study), home.place())
        if wanted == context.cursor:
            words = f"{len(plan.stale)} cells are stale, and a build was requested already"
            return dg.SensorResult(skip_reason=dg.SkipReason(words))
        asked = dg.RunRequest(run_key=None, tags={ASKED_BY_TAG: "stale cells"})
        return dg.SensorResult(run_requests=[asked], cursor=wanted)

    return build_when_stale


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
