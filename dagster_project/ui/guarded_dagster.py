"""`python -m dagster_project.ui.guarded_dagster dev ..`: `dagster dev ..`, with the guard before its web server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dagster._cli
import dagster._cli.dev

WEBSERVER, GUARDED = "dagster_webserver", "dagster_project.ui.guarded_webserver"


def main() -> None:
    """Dagster's own command line, which starts another program where it would start its web server."""
    dev: Any = dagster._cli.dev
    cli: Any = dagster._cli
    start = dev.open_ipc_subprocess

    def start_guarded(parts: Sequence[str], **options: Any) -> Any:
        return start([GUARDED if part == WEBSERVER else part for part in parts], **options)

    dev.open_ipc_subprocess = start_guarded
    cli.main()


if __name__ == "__main__":
    main()
