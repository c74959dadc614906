"""What a person sees on a terminal of 80 columns."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from terminal import on_a_terminal
from world import World

pytestmark = pytest.mark.slow


def lwf(world: World, *words: str, columns: int = 80) -> str:
    environment = {**os.environ, "LWF_HOME": str(world.home.root), "LWF_STUDY": str(world.file)}
    return on_a_terminal([sys.executable, "-m", "dagster_project.cli", *words], environment, columns=columns)


def test_a_report_loses_nothing_at_80_columns(built: World) -> None:
    narrow = lwf(built, "report", "--cell", "teeth|sums")
    for words in ("accuracy", "target NLL", "forgotten NLL", "kept NLL", "vs. reference (95 % CI)", "reference", "lwf"):
        assert words in narrow
    assert "…" not in narrow
    wide = lwf(built, "report", "--cell", "teeth|sums", columns=200)
    figures = set(re.findall(r"[-+]?\d+\.\d{3}", wide))
    assert figures
    assert figures == set(re.findall(r"[-+]?\d+\.\d{3}", narrow))


def test_a_query_says_which_study_it_looks_at(built: World) -> None:
    seen = lwf(built, "sql", "SELECT count(*) AS rows FROM scored_forget_set", columns=200)
    assert f"tiny: {built.file}, built in {built.home.root}" in seen


def test_completion_can_be_installed(tmp_path: Path) -> None:
    """As a person types it: the shell is the one that `lwf` was started from."""
    environment = {**os.environ, "HOME": str(tmp_path), "SHELL": "/bin/bash"}
    program = Path(sys.executable).parent / "lwf"
    command = ["/bin/bash", "-c", f"{program} --install-completion bash; true"]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "completion installed" in ran.stdout, ran.stderr
    assert "lwf" in (tmp_path / ".bashrc").read_text()
    asked = {**environment, "_LWF_COMPLETE": "complete_bash", "COMP_WORDS": "lwf re", "COMP_CWORD": "1"}
    offered = subprocess.run([program], env=asked, capture_output=True, text=True, check=True).stdout
    assert "report" in offered.split()
