"""A client of MLflow, wherever it is."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow import MlflowClient


def open_client(uri: str) -> MlflowClient:
    """A client of the tracking server or database at `uri`. Sets up a fresh database: not to be done by two at once."""
    from mlflow import MlflowClient

    for name in ("mlflow", "alembic"):  # a fresh database is made with some forty lines of log
        logging.getLogger(name).setLevel(logging.ERROR)
    client = MlflowClient(tracking_uri=uri)
    client.search_experiments(max_results=1)
    return client
