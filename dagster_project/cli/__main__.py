"""`python -m dagster_project.cli` is `lwf`."""

from __future__ import annotations

from dagster_project.cli.main import main

main()
