"""A PostgreSQL server of the tests' own."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from servers_at_work import LOOPBACK, free_port

USER = "postgres"


def programs() -> Path:
    """Where PostgreSQL's own programs are: Debian keeps them out of the path."""
    found = shutil.which("initdb")
    places = [Path(found).resolve().parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not places:
        pytest.skip("needs PostgreSQL: apt-get install postgresql")
    return places[-1]


@contextmanager
def postgres_server() -> Iterator[str]:
    """A server on the loopback address, with the databases `dagster` and `mlflow`; gives its address without one."""
    # It does not run as root, and its user may not look into the folders of the tests.
    folder = Path(tempfile.mkdtemp(prefix="lwf-postgres-"))
    as_user = ["runuser", "-u", USER, "--"] if os.geteuid() == 0 else []
    if as_user:
        shutil.chown(folder, USER)
    port = free_port()
    data = folder / "data"

    def run(*words: str) -> None:
        subprocess.run([*as_user, *words], check=True, capture_output=True, cwd=folder)

    run(str(programs() / "initdb"), "-D", str(data), "-U", USER, "-A", "trust")
    options = f"-p {port} -h {LOOPBACK} -k {folder}"
    run(str(programs() / "pg_ctl"), "-D", str(data), "-w", "-o", options, "-l", str(folder / "log"), "start")
    try:
        for name in ("dagster", "mlflow"):
            run(str(programs() / "createdb"), "-h", LOOPBACK, "-p", str(port), "-U", USER, name)
        yield f"postgresql://{USER}@{LOOPBACK}:{port}"
    finally:
        run(str(programs() / "pg_ctl"), "-D", str(data), "-m", "fast", "stop")
        shutil.rmtree(folder)
