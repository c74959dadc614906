"""Where MLflow is."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from urllib.parse import urlsplit

from dagster_project.runs.postgres import with_driver
from lwf_assets.store.home import Home

URI_VARIABLE = "MLFLOW_TRACKING_URI"
PORT = 5000
"""Where `lwf ui` serves MLflow by default."""

_PORTS = {"http": 80, "https": 443, "postgresql": 5432}


def tracking_uri(home: Home) -> str:
    """MLflow's address: a server from the environment, or SQLite in the home. (MLflow 3 refuses plain files.)"""
    return with_driver(os.environ.get(URI_VARIABLE) or "") or f"sqlite:///{home.root / 'mlflow.db'}"


def is_there(uri: str) -> bool:
    """False for a SQLite database that has not been made, which asking it anything would make, and for a server that
    takes no connection, which a client would try for long."""
    if uri.startswith("sqlite:///"):
        return Path(uri.removeprefix("sqlite:///")).is_file()
    address = urlsplit(uri)
    if address.hostname is None:
        return True
    try:
        port = address.port or _PORTS.get(address.scheme.partition("+")[0], PORT)
        socket.create_connection((address.hostname, port), timeout=5).close()
    except (OSError, ValueError):
        return False
    return True


def web_address(uri: str) -> str:
    """The web page of what is in `uri`: the server itself, or where `lwf ui` serves a database."""
    return uri.rstrip("/") if uri.startswith(("http://", "https://")) else f"http://127.0.0.1:{PORT}"
