"""Dagster's instance: where its runs, events and settings are kept."""

from __future__ import annotations

import os

import dagster as dg

from lwf_assets.home import Home

INSTANCE_SETTINGS = """\
telemetry:
  enabled: false
nux:
  enabled: false
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
