"""What the libraries themselves say, once a command or the code location has begun."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from world import World

COMMAND = """
import sys
from contextlib import suppress
from dagster_project.cli.main import main
sys.argv = ["lwf", "--help"]
with suppress(SystemExit):
    main()
"""
CODE_LOCATION = """
from dagster_project.definitions import defs
defs()
"""
ASK = """
from huggingface_hub import constants
from mlflow.telemetry.utils import is_telemetry_disabled
print(constants.HF_HUB_DISABLE_TELEMETRY, is_telemetry_disabled())
"""


@pytest.mark.parametrize("begin", [COMMAND, CODE_LOCATION])
def test_libraries_send_no_statistics(begin: str, built: World) -> None:
    silent = {"DO_NOT_TRACK", "MLFLOW_DISABLE_TELEMETRY", "HF_HUB_DISABLE_TELEMETRY", "HF_HUB_OFFLINE"}
    # Where it runs under a test or a CI service, MLflow sends nothing anyway.
    kept = {name: value for name, value in os.environ.items() if name not in silent and not name.startswith("PYTEST")}
    kept = {name: value for name, value in kept.items() if name not in {"CI", "GITHUB_ACTIONS"}}

    def said(code: str) -> str:
        environment = {**kept, "LWF_STUDY": str(built.file)}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        return done.stdout.splitlines()[-1]

    assert said(begin + ASK) == "True True"
    assert said(ASK) != "True True"  # without us they would
