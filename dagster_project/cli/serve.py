"""`lwf ui`: both UIs on this machine."""

from __future__ import annotations

from typing import Annotated

import typer

from dagster_project.cli.arguments import StudyOption
from dagster_project.cli.console import err
from dagster_project.tracking.address import PORT
from lwf_assets.store.home import Home
from lwf_assets.study.file import load_study


def ui(
    study: StudyOption,
    dagster_port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the Dagster UI.")] = 3000,
    mlflow_port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the MLflow UI.")] = PORT,
    host: Annotated[str, typer.Option(help="Address to listen on. Neither UI has a login.")] = "127.0.0.1",
    name: Annotated[
        list[str] | None,
        typer.Option(help="Another name that browsers call this machine by, as behind a proxy."),
    ] = None,
) -> None:
    """Serve the Dagster UI with its daemon, and the MLflow UI, until Ctrl-C. They listen on the loopback address unless
    `--host` is given."""
    from dagster_project.ui.servers import serve

    load_study(study)  # a mistake in it is reported here and not in a server's log
    serve(study.resolve(), Home.from_environment(), host, dagster_port, mlflow_port, tell=err.print, names=name or ())
