"""The command line `lwf`: one module of this package per group of commands.

Results go to stdout and everything else to stderr; with --json, stdout has JSON and nothing else. Errors that the user
can fix end with exit code 1 and one message, usage errors with 2.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import typer
from rich.text import Text

from dagster_project.cli import lineage
from dagster_project.cli.build import build
from dagster_project.cli.check import check
from dagster_project.cli.console import err
from dagster_project.cli.export import export
from dagster_project.cli.init import init
from dagster_project.cli.interrupts import end_soon_after_an_interrupt, is_interrupt, leave
from dagster_project.cli.plan import plan
from dagster_project.cli.report import promote, report
from dagster_project.cli.serve import ui
from dagster_project.cli.sql import sql
from dagster_project.cli.sync import sync
from dagster_project.cli.track import track
from dagster_project.runs.secrets import keep_secrets_out_of_logs, redacted
from dagster_project.runs.telemetry import keep_telemetry_off
from lwf_assets.disk.room import refusal
from lwf_assets.errors import LwfError
from lwf_assets.store.home import Home

app = typer.Typer(
    name="lwf",
    help="Learning With Forgetting: fine-tune a language model while it unlearns what conflicts.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
COMMANDS: tuple[Callable[..., None], ...] = (
    init,
    check,
    plan,
    build,
    report,
    promote,
    export,
    sql,
    sync,
    track,
    ui,
    lineage.audit,
    lineage.repair,
    lineage.trace,
    lineage.diff,
    lineage.keep,
    lineage.gc,
)
for command in COMMANDS:
    app.command()(command)


def main() -> None:
    """Entry point: one message and exit code 1 for what the user can fix."""
    keep_telemetry_off()
    keep_secrets_out_of_logs()
    end_soon_after_an_interrupt()
    try:
        app()
    except BaseException as error:
        if is_interrupt(error):
            leave()
        said = str(error) if isinstance(error, LwfError) else refusal(error, Home.from_environment().root)
        if said is None:
            raise
        err.print(Text.assemble(("Error: ", "bold red"), redacted(said)), soft_wrap=True)
        sys.exit(1)
