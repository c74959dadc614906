"""Dagster's instance: where its runs, events and settings are kept."""

from __future__ import annotations

import os

import dagster as dg

from lwf_assets.home import Home

INSTANCE_SETTINGS = """\
# Written once by `lwf`, and yours to change: https://docs.dagster.io/deployment/oss/dagster-yaml
telemetry:
  enabled: false
nux:
  enabled: false
concurrency:
  pools:
    # One step that computes with a model at a time (pool `device`); with several devices, as many.
    default_limit: 1
    granularity: op
run_monitoring:
  # A run whose process died is noticed, ..
  enabled: true
  poll_interval_seconds: 30
run_retries:
  # .. and run again. What failed by itself is not: the steps know which errors may pass, and retry those.
  enabled: true
  max_retries: 2
  retry_on_asset_or_op_failure: false
"""


def open_instance(home: Home) -> dg.DagsterInstance:
    """Dagster's instance in the home, made if it is not there. Sets `$DAGSTER_HOME` for this process and its
    children."""
    folder = home.root / "dagster"
    folder.mkdir(parents=True, exist_ok=True)
    settings = folder / "dagster.yaml"
    if not settings.exists():
        settings.write_text(INSTANCE_SETTINGS)
    os.environ["DAGSTER_HOME"] = str(folder)
    return dg.DagsterInstance.get()


def existing_instance(home: Home) -> dg.DagsterInstance | None:
    """The instance in the home; None where none was ever made, or its databases are gone."""
    folder = home.root / "dagster"
    if not (folder / "dagster.yaml").is_file() or not (folder / "history" / "runs").is_dir():
        return None
    return dg.DagsterInstance.from_config(str(folder))
