"""Where MLflow is."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from urllib.parse import unquote, urlsplit

from dagster_project.runs.postgres import with_driver
from dagster_project.runs.secrets import redacted
from lwf_assets.errors import LwfError
from lwf_assets.store.home import Home

URI_VARIABLE = "MLFLOW_TRACKING_URI"
USER_VARIABLE, PASSWORD_VARIABLE = "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"
PORT = 5000
"""Where `lwf ui` serves MLflow by default."""

_PORTS = {"http": 80, "https": 443, "postgresql": 5432}


def tracking_uri(home: Home) -> str:
    """MLflow's address: a server from the environment, or SQLite in the home. (MLflow 3 refuses plain files.)

    User and password of a server's address are moved to the variables that MLflow has for them, for this process and
    its children, so that no link, message or record of anybody can have them.

    Raises:
        LwfError: the address names a user without a password.
    """
    _move_credentials()
    return with_driver(os.environ.get(URI_VARIABLE) or "") or f"sqlite:///{home.root / 'mlflow.db'}"


def _move_credentials() -> None:
    address = urlsplit(os.environ.get(URI_VARIABLE) or "")
    if not address.scheme.startswith("http") or "@" not in address.netloc:
        return
    if not (address.username and address.password):
        raise LwfError(
            f"{URI_VARIABLE}: {shown(address.geturl())} has a user without a password; write user:password@, or put "
            "a token into MLFLOW_TRACKING_TOKEN"
        )
    os.environ[USER_VARIABLE], os.environ[PASSWORD_VARIABLE] = unquote(address.username), unquote(address.password)
    os.environ[URI_VARIABLE] = address._replace(netloc=address.netloc.rpartition("@")[2]).geturl()


def shown(uri: str) -> str:
    """An address as it may be written: without user and password."""
    return redacted(uri)


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
