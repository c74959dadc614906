"""Starts the Dagster and MLflow UIs side by side and stops both together."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from dagster_project.ui.guard import NAMES_VARIABLE, told_names
from lwf_assets.errors import LwfError
from lwf_assets.shipped import shipped
from lwf_assets.store.home import HOME_VARIABLE, STUDY_VARIABLE, Home

LOOPBACK = "127.0.0.1"
EVERYWHERE = ("0.0.0.0", "::")
"""Addresses that stand for all of this machine's."""


def serve(
    study: Path,
    home: Home,
    host: str,
    dagster_port: int,
    mlflow_port: int,
    *,
    tell: Callable[[str], None],
    names: Sequence[str] = (),
) -> None:
    """Run both on the address `host` until Ctrl-C or a termination signal, or until one of them ends. `names` are
    others that browsers may call them by.

    Raises:
        LwfError: a port is taken, or a server ended by itself; its log is named.
    """
    from dagster_project.runs.instance import open_instance
    from dagster_project.tracking.address import tracking_uri
    from dagster_project.tracking.database import make_database

    reached = LOOPBACK if host in EVERYWHERE else host
    backend = tracking_uri(home)
    own_mlflow = not backend.startswith("http")
    ports = {"dagster": dagster_port} | ({"mlflow": mlflow_port} if own_mlflow else {})
    for name, port in ports.items():
        if _answers(reached, port):
            raise LwfError(f"--{name}-port: {port} is in use on {reached}; choose another")
    open_instance(home)
    make_database(backend)
    shown = f"[{reached}]" if ":" in reached else reached
    mlflow_address = f"http://{shown}:{mlflow_port}" if own_mlflow else backend
    environment = {
        **os.environ,
        HOME_VARIABLE: str(home.root),
        STUDY_VARIABLE: str(study),
        "MLFLOW_TRACKING_URI": mlflow_address,
        # Not among the arguments, which every user of the machine can read.
        "MLFLOW_BACKEND_STORE_URI": backend,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # background workers for what this project does not use
        **_allowing(names),
    }
    dagster = (*_program("dagster_project.ui.guarded_dagster"), "dev", "-w", str(workspace_file()))
    commands = {"dagster": [*dagster, "-h", host, "-p", str(dagster_port)]}
    if own_mlflow:
        artifacts = (home.root / "mlflow-artifacts").as_uri()
        commands["mlflow"] = [
            *(*_program("mlflow"), "server", "--host", host, "--port", str(mlflow_port), "--workers", "1"),
            *("--default-artifact-root", artifacts),
        ]
    servers: dict[str, subprocess.Popen[bytes]] = {}
    signal.set_wakeup_fd(-1)  # stopping them takes longer than Ctrl-C gives other commands to end
    for stop in (signal.SIGINT, signal.SIGTERM):  # also where the shell has it ignored, as for jobs in the background
        signal.signal(stop, signal.default_int_handler)
    try:
        for name, command in commands.items():
            with (home.root / f"{name}.log").open("ab") as log:  # a service that starts again keeps why it ended
                servers[name] = subprocess.Popen(
                    command, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
                )
        _wait_until_up(servers, home, reached, ports)
        tell(f"Dagster  http://{shown}:{dagster_port}")
        tell(f"MLflow   {mlflow_address}")
        tell("Ctrl-C stops both." if own_mlflow else "Ctrl-C stops Dagster.")
        while True:
            _raise_if_ended(servers, home)
            time.sleep(0.5)
    except KeyboardInterrupt:
        tell("Stopping.")
    finally:
        _stop(servers)


def _allowing(names: Sequence[str]) -> dict[str, str]:
    """The variables by which both are told of names."""
    names = [*names, *sorted(told_names())]
    if not names:
        return {}
    from mlflow.server.security_utils import get_default_allowed_hosts

    hosts = [*get_default_allowed_hosts(), *names, *(f"{name}:*" for name in names)]
    origins = [f"{scheme}://{name}{port}" for name in names for scheme in ("http", "https") for port in ("", ":*")]
    return {
        NAMES_VARIABLE: ",".join(names),
        "MLFLOW_SERVER_ALLOWED_HOSTS": ",".join(hosts),
        "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": ",".join(origins),
    }


def _program(module: str) -> tuple[str, ...]:
    """The program of a package, run by this Python, wherever the package's own scripts may lie."""
    return (sys.executable, "-m", module)


def _wait_until_up(servers: dict[str, subprocess.Popen[bytes]], home: Home, host: str, ports: dict[str, int]) -> None:
    deadline = time.monotonic() + 120
    while not all(_answers(host, ports[name]) for name in servers):
        _raise_if_ended(servers, home)
        if time.monotonic() > deadline:
            logs = " and ".join(str(home.root / f"{name}.log") for name in servers)
            raise LwfError(f"the servers did not start within two minutes; see {logs}")
        time.sleep(0.2)


def _raise_if_ended(servers: dict[str, subprocess.Popen[bytes]], home: Home) -> None:
    for name, server in servers.items():
        if server.poll() is not None:
            raise LwfError(f"the {name} server ended with code {server.returncode}; see {home.root / name}.log")


def _stop(servers: dict[str, subprocess.Popen[bytes]]) -> None:
    for server in servers.values():
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGINT)  # each leads its own group: its workers end with it
    for server in servers.values():
        try:
            server.wait(timeout=20)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def _answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=0.5).close()
    except OSError:
        return False
    return True


def workspace_file() -> Path:
    """The workspace that Dagster's web server and daemon load."""
    return shipped("workspace.yaml")
