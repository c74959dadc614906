"""A client of MLflow, wherever it is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from dagster_project.tracking.database import make_database

if TYPE_CHECKING:
    from mlflow import MlflowClient


def open_client(uri: str) -> MlflowClient:
    """A client of the tracking server or database at `uri`, which is made if it is SQLite and not there."""
    from mlflow import MlflowClient

    # A request is tried twice here, and again later by those who can wait; MLflow itself would try for minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    make_database(uri)
    return MlflowClient(tracking_uri=uri)


def experiment_of(client: MlflowClient, uri: str, home: Path, name: str) -> str:
    """Id of the experiment of that name, created if missing, so two processes must not call it at the same time."""
    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    # A server says where artifacts go; a database alone has no place of its own for them.
    artifacts = None if uri.startswith("http") else (home / "mlflow-artifacts").as_uri()
    return str(client.create_experiment(name, artifact_location=artifacts))
