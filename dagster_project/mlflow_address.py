"""Where MLflow is."""

from __future__ import annotations

import os
from pathlib import Path

from lwf_assets.home import Home

URI_VARIABLE = "MLFLOW_TRACKING_URI"


def tracking_uri(home: Home) -> str:
    """MLflow's address: a server from the environment, or SQLite in the home. (MLflow 3 refuses plain files.)"""
    return os.environ.get(URI_VARIABLE) or f"sqlite:///{home.root / 'mlflow.db'}"


def is_there(uri: str) -> bool:
    """False for a SQLite database that has not been made, which asking it anything would make."""
    return not uri.startswith("sqlite:///") or Path(uri.removeprefix("sqlite:///")).is_file()
