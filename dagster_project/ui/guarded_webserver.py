"""`python -m dagster_project.ui.guarded_webserver`: `dagster-webserver`, with the guard before it."""

from __future__ import annotations

from typing import Any

import dagster_webserver.app
import dagster_webserver.cli
from dagster_webserver.webserver import DagsterWebserver
from starlette.middleware import Middleware

from dagster_project.ui.guard import Guard


class GuardedWebserver(DagsterWebserver[Any, Any]):
    """Dagster's, which is asked for its middleware."""

    def build_middleware(self) -> list[Middleware]:
        """The guard first."""
        return [Middleware(Guard), *super().build_middleware()]


if __name__ == "__main__":
    webserver: Any = dagster_webserver.app
    webserver.DagsterWebserver = GuardedWebserver
    run: Any = dagster_webserver.cli
    run.main()
