"""No usage statistics are sent: not by MLflow, not by the model hub's library, not by Dagster (`instance.py`)."""

from __future__ import annotations

import os


def keep_telemetry_off() -> None:
    """For this process and those that it starts, unless the environment says otherwise; to be called before the
    libraries are imported, for that is when they look."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("DO_NOT_TRACK", "1")
