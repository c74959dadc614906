"""MLflow's SQLite database, made whole or not at all."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from dagster_project.runs.databases import make_whole

SQLITE = "sqlite:///"


def make_database(uri: str) -> None:
    """Make the database at `uri` if it is one in SQLite that is not there; servers look after their own."""
    # It is made with some forty lines of log; and what fails later is raised, beside the traceback that is logged.
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    if uri.startswith(SQLITE) and "?" not in uri and ":memory:" not in uri:
        # MLflow's last step is to add an experiment.
        make_whole(Path(uri.removeprefix(SQLITE)), _make, {"": "experiments"})


def _make(path: Path) -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    make: Any = SqlAlchemyStore  # untyped
    store = make(f"{SQLITE}{path}", (path.parent.parent / "mlflow-artifacts").as_uri())
    store.engine.dispose()
