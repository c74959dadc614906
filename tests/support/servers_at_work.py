"""Servers that tests start for real, each on a port of its own on the loopback address."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

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
