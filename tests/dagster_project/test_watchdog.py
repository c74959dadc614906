"""A process that nobody waits for ends, however its parent went."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dagster_project.processes.watchdog import PARENT

PROGRAM = """
import sys, time
from pathlib import Path
from dagster_project.processes.watchdog import end_when_unwanted
end_when_unwanted(Path(sys.argv[1]))
print("ready", flush=True)
time.sleep(60)
"""


def _start(order: Path, parent: int) -> subprocess.Popen[str]:
    environment = {**os.environ, PARENT: str(parent)}
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(order)], env=environment, stdout=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize("why", ["no order", "another parent"])
def test_ends_at_once_where_it_is_late(why: str, tmp_path: Path) -> None:
    order = tmp_path / "order"
    if why == "another parent":
        order.touch()
    assert _start(order, os.getpid() if why == "no order" else os.getpid() + 1).wait(timeout=60) == -signal.SIGKILL


def test_ends_when_the_order_goes(tmp_path: Path) -> None:
    order = tmp_path / "order"
    order.touch()
    process = _start(order, os.getpid())
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=1)
    order.unlink()
    assert process.wait(timeout=60) == -signal.SIGKILL
