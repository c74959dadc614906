"""Servers that tests start for real, each on a port of its own on the loopback address."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

LOOPBACK = "127.0.0.1"
PROGRAMS = Path(sys.executable).parent
"""Where the console scripts of this environment are."""


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.socket() as free:
        free.bind((LOOPBACK, 0))
        port: int = free.getsockname()[1]
        return port


@contextmanager
def lwf_ui(words: Sequence[str], environment: dict[str, str], stop_with: signal.Signals) -> Iterator[int]:
    """`lwf ui` with the arguments `words`, ready when this begins and stopped, with success, when it ends; gives its
    process id."""
    process = subprocess.Popen(
        [str(PROGRAMS / "lwf"), "ui", *words],
        env={**os.environ, "LWF_SENSOR_SECONDS": "2", "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stderr is not None
    try:
        told = b""
        while b"Ctrl-C" not in told:
            line = process.stderr.readline()
            assert line, told.decode()
            told += line
        yield process.pid
        process.send_signal(stop_with)
        assert process.wait(timeout=60) == 0
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@contextmanager
def mlflow_server(folder: Path, port: int) -> Iterator[str]:
    """A real MLflow server on the loopback address, with its database in `folder`; gives its address."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--host", LOOPBACK, "--port", str(port), "--workers", "1"),
        *("--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--default-artifact-root", str(folder / "artifacts")),
    ]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    environment.pop("MLFLOW_TRACKING_URI", None)
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        address = f"http://{LOOPBACK}:{port}"
        deadline = time.monotonic() + 120
        while True:
            try:
                urlopen(f"{address}/health", timeout=5).read()
                break
            except OSError:
                assert process.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.3)
        yield address
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=30)
