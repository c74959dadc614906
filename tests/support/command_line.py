"""The command line as its user runs it: each call a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from world import World


def lwf(world: World, *words: str) -> subprocess.CompletedProcess[str]:
    """Run `lwf` with these words, on the world's study and home."""
    environment = {**os.environ, "LWF_HOME": str(world.home.root), "LWF_STUDY": str(world.file), "COLUMNS": "200"}
    command = [sys.executable, "-m", "dagster_project.cli", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def json_of(done: subprocess.CompletedProcess[str]) -> Any:
    """All of stdout is one JSON value."""
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
