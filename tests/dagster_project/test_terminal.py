"""What a person sees on a terminal of 80 columns."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
from world import World

pytestmark = pytest.mark.slow

NOISE = ("Writing model shards", "Loading weights", "View run", "View experiment", "Warning", "🏃")


def on_a_terminal(world: World, *words: str, columns: int = 80) -> str:
    """What `lwf` writes to a terminal, without colours."""
    environment = {
        **os.environ,
        "COLUMNS": str(columns),
        "TERM": "xterm-256color",
        "LWF_HOME": str(world.home.root),
        "LWF_STUDY": str(world.file),
    }
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "dagster_project.cli", *words]
    process = subprocess.Popen(command, env=environment, stdout=slave, stderr=slave, stdin=slave, close_fds=True)
    os.close(slave)
    written = b""
    while True:
        try:
            part = os.read(master, 65536)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        written += part
    os.close(master)
    assert process.wait() == 0, written.decode()
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written.decode()).replace("\r", "")


def test_a_report_loses_nothing_at_80_columns(built: World) -> None:
    narrow = on_a_terminal(built, "report", "--cell", "teeth|sums")
    for words in ("accuracy", "target NLL", "forgotten NLL", "kept NLL", "vs. reference (95 % CI)", "reference", "lwf"):
        assert words in narrow
    assert "…" not in narrow
    wide = on_a_terminal(built, "report", "--cell", "teeth|sums", columns=200)
    figures = set(re.findall(r"[-+]?\d+\.\d{3}", wide))
    assert figures
    assert figures == set(re.findall(r"[-+]?\d+\.\d{3}", narrow))


def test_a_build_shows_its_bars_and_nothing_of_the_libraries(built: World) -> None:
    built.values["unlearning"]["interval"] = 3
    seen = on_a_terminal(built, "build", "--cell", "teeth|sums")
    assert "lwf_checkpoint" in seen
    assert [noise for noise in NOISE if noise in seen] == []


def test_a_query_says_which_study_it_looks_at(built: World) -> None:
    seen = on_a_terminal(built, "sql", "SELECT count(*) AS rows FROM scored_forget_set", columns=200)
    assert f"tiny: {built.file}, built in {built.home.root}" in seen


def test_completion_can_be_installed(tmp_path: Path) -> None:
    environment = {**os.environ, "HOME": str(tmp_path), "SHELL": "/bin/bash"}
    command = [sys.executable, "-m", "dagster_project.cli", "--show-completion", "bash"]
    shown = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if shown.returncode != 0:  # the shell is found by the parent process where it cannot be named
        command = [sys.executable, "-m", "dagster_project.cli", "--show-completion"]
        shown = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert "_LWF_COMPLETE" in shown.stdout or "complete" in shown.stdout, shown.stderr
