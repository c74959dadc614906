"""`lwf sql`: DuckDB over the tables of the store."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from dagster_project.cli.arguments import JsonOption, StudyOption, out
from lwf_assets.store.home import DEFAULT_STUDY, Home
from lwf_assets.study.file import load_study


def sql(
    query: Annotated[str, typer.Argument(help='For example "SELECT * FROM scored_forget_set WHERE selected LIMIT 5".')],
    study: StudyOption = DEFAULT_STUDY,
    as_json: JsonOption = False,
) -> None:
    """Query the current artifacts with DuckDB: one view per table of each asset."""
    from dagster_project.cli.views import query_store

    names, rows = query_store(load_study(study), Home.from_environment().store, query)
    if as_json:
        print(json.dumps([dict(zip(names, row, strict=True)) for row in rows], indent=2, default=str))
        return
    table = Table(*names)
    for row in rows:
        table.add_row(*(Text("" if value is None else str(value)) for value in row))
    out.print(table)
