"""The one hook for notifications: a failed run is posted to a web address."""

# No `from __future__ import annotations` here: Dagster reads the annotations of the decorated functions as objects.

import os
from typing import Any

import dagster as dg
import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from dagster_project.automation.tags import BUILD_TAG, CELL_TAG, INTERVAL
from dagster_project.runs.failures import FAILURE_TAG
from dagster_project.runs.secrets import errors_redacted
from lwf_assets.study.study import Study

WEBHOOK_VARIABLE = "LWF_WEBHOOK"
TIMEOUT = 10
"""Seconds that the address may take to answer."""


def failure_sensors(study: Study) -> list[dg.SensorDefinition]:
    """A sensor that posts every failed run of this code location to `$LWF_WEBHOOK`; none where it is not set."""
    if not os.environ.get(WEBHOOK_VARIABLE):
        return []

    @dg.run_failure_sensor(
        name="tell_of_failures",
        description="Posts failed runs, as JSON, to the address in $LWF_WEBHOOK.",
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=INTERVAL,
    )
    def tell_of_failures(context: dg.RunFailureSensorContext) -> None:
        # Read again: a new address must not need a new code location, and a missing one must be an error.
        with errors_redacted():
            post(os.environ[WEBHOOK_VARIABLE], message(study, context))

    return [tell_of_failures]


def message(study: Study, context: dg.RunFailureSensorContext) -> dict[str, Any]:
    """What is posted. `text` alone is what chat services show."""
    run = context.dagster_run
    steps = [
        {"step": str(event.step_key), "error": _reason(event)}
        for event in context.get_step_failure_events()
        if event.step_failure_data.error is not None
    ]
    cell = run.tags.get(CELL_TAG, run.job_name)
    what = "; ".join(step["error"] for step in steps) or context.failure_event.message or "the run failed"
    return {
        "text": f"{study.name}: {cell} failed: {what}",
        "study": study.name,
        "job": run.job_name,
        "partition": run.tags.get("dagster/partition"),
        "cell": run.tags.get(CELL_TAG),
        "build": run.tags.get(BUILD_TAG),
        "run": run.run_id,
        "failure": run.tags.get(FAILURE_TAG, "unexpected"),
        "steps": steps,
    }


def post(url: str, body: dict[str, Any]) -> None:
    """Post `body` as JSON; an address that does not answer, or is busy, is asked again a few times.

    Raises:
        requests.RequestException: it still does not take it.
    """
    tries = Retry(total=4, backoff_factor=0.5, status_forcelist=(429, 500, 502, 503, 504), allowed_methods={"POST"})
    with requests.Session() as session:
        for scheme in ("http://", "https://"):
            session.mount(scheme, HTTPAdapter(max_retries=tries))
        session.post(url, json=body, timeout=TIMEOUT).raise_for_status()


def _reason(event: dg.DagsterEvent) -> str:
    failure = event.step_failure_data
    described = failure.user_failure_data.description if failure.user_failure_data else None
    return str(described or (failure.error.message if failure.error else "")).strip()
