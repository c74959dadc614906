"""`lwf sql`: DuckDB over the tables of the store."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from dagster_project.cli.arguments import JsonOption, StudyOption
from dagster_project.cli.console import err, out
from lwf_assets.store.home import Home
from lwf_assets.study.file import load_study


def sql(
    query: Annotated[str, typer.Argument(help='For example "SELECT * FROM scored_forget_set WHERE selected LIMIT 5".')],
    study: StudyOption,
    as_json: JsonOption = False,
) -> None:
    """Query the current artifacts with DuckDB: one view per table of each asset."""
    from dagster_project.cli.views import query_store

    settings, home = load_study(study), Home.from_environment()
    err.print(Text(f"{settings.name}: {study}, built in {home.root}"), style="dim", soft_wrap=True)
    names, rows = query_store(settings, home.store, query)
    if as_json:
        print(json.dumps([dict(zip(names, row, strict=True)) for row in rows], indent=2, default=str))
        return
    table = Table(*names)
    for row in rows:
        table.add_row(*(Text("" if value is None else str(value)) for value in row))
    out.print(table)
