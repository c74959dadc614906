"""Dagster's instance: where its runs, events and settings are kept."""

from __future__ import annotations

import os
from pathlib import Path

import dagster as dg
import yaml
from dagster._core.launcher import DefaultRunLauncher
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage
from sqlalchemy import create_engine
from sqlalchemy.exc import OperationalError

from dagster_project.runs.databases import make_whole
from dagster_project.runs.postgres import with_driver
from lwf_assets.disk.writing import write_atomically
from lwf_assets.errors import LwfError
from lwf_assets.store.home import Home

POSTGRES_VARIABLE = "DAGSTER_POSTGRES_URL"

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

STORAGE_KEYS = {"storage", "run_storage", "event_log_storage", "schedule_storage"}
"""Keys of `dagster.yaml` that name another place for its databases than SQLite beside it."""

POSTGRES_SETTINGS = f"""\
storage:
  postgres:
    postgres_url:
      env: {POSTGRES_VARIABLE}
"""


def open_instance(home: Home) -> dg.DagsterInstance:
    """Dagster's instance in the home, made if it is not there. Sets `$DAGSTER_HOME` for this process and its
    children.

    A new instance keeps its runs in PostgreSQL where `$DAGSTER_POSTGRES_URL` is set, else in SQLite in the home.

    Raises:
        LwfError: the instance is in SQLite, and the variable asks for PostgreSQL, or the other way round.
    """
    settings = _settings_file(home)
    settings.parent.mkdir(parents=True, exist_ok=True)
    wants_postgres = _name_driver()
    if not settings.exists():
        write_atomically(settings, INSTANCE_SETTINGS + (POSTGRES_SETTINGS if wants_postgres else ""))
    if wants_postgres != (POSTGRES_VARIABLE in settings.read_text()):
        kept, asked = ("SQLite", "is set") if wants_postgres else ("PostgreSQL", "is not set")
        raise LwfError(
            f"{settings}: keeps Dagster's runs in {kept}, and {POSTGRES_VARIABLE} {asked}; change one of the two. "
            "If the file is deleted, a new instance is created; the store is not affected"
        )
    os.environ["DAGSTER_HOME"] = str(settings.parent)
    if set(yaml.safe_load(settings.read_text()) or {}).isdisjoint(STORAGE_KEYS):
        _make_databases(settings.parent)
    return dg.DagsterInstance.get()


def _make_databases(folder: Path) -> None:
    """Dagster's SQLite databases in `folder`, each part of them whole or not there."""

    def make(fresh: Path) -> None:
        DagsterSqliteStorage(str(fresh.parent)).dispose()  # it makes all of them, below the folder that it is given

    make_whole(folder / "history", make, {"runs.db": "alembic_version", "runs/index.db": "alembic_version"})
    make_whole(folder / "schedules", make, {"schedules.db": "alembic_version"})


def existing_instance(home: Home) -> dg.DagsterInstance | None:
    """The instance in the home; None where none was ever made, or its databases no longer exist."""
    settings = _settings_file(home)
    if not settings.is_file():
        return None
    in_postgres = POSTGRES_VARIABLE in settings.read_text()
    if in_postgres and not (_name_driver() and _answers(os.environ[POSTGRES_VARIABLE])):
        return None
    if not in_postgres and not (settings.parent / "history" / "runs").is_dir():
        return None
    instance = dg.DagsterInstance.from_config(str(settings.parent))
    try:
        instance.get_runs_count()
    except OperationalError:
        return None
    return instance


def launches_elsewhere(instance: dg.DagsterInstance) -> bool:
    """Whether runs may be on other machines: with any launcher but Dagster's default one."""
    return not isinstance(instance.run_launcher, DefaultRunLauncher)


def _answers(address: str) -> bool:
    """Whether the database can be reached; Dagster would try for long."""
    engine = create_engine(address)
    try:
        engine.connect().close()
    except OperationalError:
        return False
    finally:
        engine.dispose()
    return True


def _settings_file(home: Home) -> Path:
    return home.root / "dagster" / "dagster.yaml"


def _name_driver() -> bool:
    """Whether `$DAGSTER_POSTGRES_URL` is set; it then names its driver, for this process and its children."""
    address = os.environ.get(POSTGRES_VARIABLE)
    if address:
        os.environ[POSTGRES_VARIABLE] = with_driver(address)
    return bool(address)
