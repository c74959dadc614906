"""The connection to a Ray cluster, and what is said where there is none."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dagster_project.runs.secrets import redacted
from lwf_assets.errors import LwfError

AUTO = "auto"
_FORMS = (
    "write ray://HOST:10001 from any machine, HOST:6379 on a node of the cluster, or auto for the one of this machine"
)


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """Ray's module, connected to the cluster at `address`; nothing of this driver is left there afterwards.

    Raises:
        LwfError: no such address, nobody answers there, or Ray there is of another version.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray = _imported()
    _refuse_unreachable(address)
    terminate = signal.getsignal(signal.SIGTERM)
    try:
        try:
            _connect(ray, address)
        except ConnectionAbortedError:  # a head that is busy is slow to start the process that stands for this driver
            _connect(ray, address)
    except Exception as error:  # Ray has no error of its own for most of what can go wrong here
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        said = redacted(lines[0] if len(lines) == 1 else f"{lines[0]} {lines[-1]}")  # of a traceback, its last line
        raise LwfError(f"--on {address}: no Ray cluster could be reached there ({said}); {_FORMS}") from None
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, terminate)  # Ray's own would end this process with another exit code
    try:
        yield ray
    finally:
        ray.shutdown()


def _connect(ray: Any, address: str) -> None:
    # What processes on the nodes print is kept there, in Ray's own logs.
    ray.init(address, log_to_driver=False, logging_level=logging.ERROR)


def _imported() -> Any:
    try:
        import ray
    except ImportError:
        raise LwfError("--on: Ray is not installed here; `pip install 'lwf-assets[ray]'`") from None
    return ray


def _refuse_unreachable(address: str) -> None:
    """Ray itself would try for half a minute."""
    if address == AUTO:
        return
    scheme, _, place = address.rpartition("://")
    host, _, port = place.rpartition(":")
    if scheme not in ("", "ray") or not host or not port.isdigit():
        raise LwfError(f"--on {address}: is not the address of a Ray cluster; {_FORMS}")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except OSError as error:
        raise LwfError(
            f"--on {address}: nobody answers there ({error.strerror or error}); is the head node up "
            "(`ray start --head`), and does its firewall let this machine in?"
        ) from None
