"""No usage statistics are sent: not by MLflow, not by the model hub's library, not by Dagster (`instance.py`)."""

from __future__ import annotations

import os

OFF = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "1"}
"""Variables of the environment that the libraries look at when they are imported."""


def keep_telemetry_off() -> None:
    """For this process and those that it starts, unless the environment says otherwise."""
    for name, value in OFF.items():
        os.environ.setdefault(name, value)
