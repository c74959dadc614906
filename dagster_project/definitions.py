"""The code location: the assets, checks, jobs, schedule and sensors of one study.

`$LWF_STUDY` names the study file (default: study.yaml here, or else the embedded one), `$LWF_HOME` the folder that
everything is built in (default: .lwf in the working directory), `$MLFLOW_TRACKING_URI` an MLflow server (default:
SQLite in the home), `$LWF_WEBHOOK` an address that failed runs are posted to (default: none).
"""

from __future__ import annotations

import os
from pathlib import Path

import dagster as dg

from dagster_project.assets import build_assets
from dagster_project.automation.requests import build_requests
from dagster_project.automation.run_builds import build_run_sensor
from dagster_project.automation.stale_marks import CHECK, build_freshness_checks, build_freshness_sensor
from dagster_project.automation.tags import INTERVAL
from dagster_project.automation.webhook import failure_sensors
from dagster_project.checks import build_checks
from dagster_project.partitions import JOB_OF_DIMENSIONS, partitions_definitions
from dagster_project.resources import LwfHome, MlflowTracking
from dagster_project.runs.secrets import keep_secrets_out_of_logs
from dagster_project.runs.telemetry import keep_telemetry_off
from lwf_assets.graph.cells import specs_of
from lwf_assets.store.home import STUDY_VARIABLE, Home, default_study
from lwf_assets.study.file import load_study
from lwf_assets.study.study import Study


def study_path() -> Path:
    """The study file that the environment names, or the default."""
    return Path(os.environ.get(STUDY_VARIABLE) or default_study())


def build_definitions(study: Study, home: Home, *, pooled: bool = True) -> dg.Definitions:
    """Everything Dagster needs to know of `study`, built in `home`.

    Args:
        study: what is wanted.
        home: where it is built.
        pooled: whether steps that compute with a model take turns, by a pool of the instance. Only a daemon takes the
            place of a run whose process died from it.

    Raises:
        LwfError: the study's cron expression is none.
    """
    jobs = [
        dg.define_asset_job(
            name,
            # Without the marks of what is stale: a sensor sets those.
            selection=_selection([spec.name for spec in specs_of(study) if spec.dimensions == dimensions]),
            partitions_def=partitions_definitions(study)[dimensions],
            description=f"Every asset of the study that is partitioned {name.replace('_', ' ')}.",
        )
        for dimensions, name in JOB_OF_DIMENSIONS.items()
        if any(spec.dimensions == dimensions for spec in specs_of(study))
    ]
    request, schedules, asking = build_requests(study)
    sensors = [build_run_sensor(study, jobs), *asking, build_freshness_sensor(study, INTERVAL), *failure_sensors(study)]
    return dg.Definitions(
        assets=build_assets(study, pooled=pooled),
        asset_checks=[*build_checks(study), *build_freshness_checks(study)],
        jobs=[*jobs, request],
        schedules=schedules,
        sensors=sensors,
        # Steps of one run share a process, so that torch is imported once and a killed run leaves no step behind.
        executor=dg.in_process_executor,
        resources={
            "home": LwfHome(root=str(home.root)),
            "tracking": MlflowTracking(root=str(home.root)),
        },
    )


def _selection(names: list[str]) -> dg.AssetSelection:
    marks = dg.AssetSelection.checks(*(dg.AssetCheckKey(dg.AssetKey(name), CHECK) for name in names))
    return dg.AssetSelection.assets(*names) - marks


@dg.definitions
def defs() -> dg.Definitions:
    """The code location that `workspace.yaml` and `dg` load."""
    keep_telemetry_off()
    keep_secrets_out_of_logs()
    return build_definitions(load_study(study_path()), Home.from_environment())
