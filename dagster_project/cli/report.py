"""`lwf report` and `lwf promote`: what came of it, and which model is the champion."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from dagster_project.cli.arguments import CellOption, JsonOption, StudyOption, partition_of_cell, reports_asked_for
from dagster_project.cli.console import err, out
from dagster_project.cli.report_table import print_reports, report_figures
from lwf_assets.graph.cells import Cell
from lwf_assets.store.home import Home
from lwf_assets.study.file import load_study
from lwf_assets.study.study import Study


def report(
    study: StudyOption,
    cell: CellOption = None,
    as_json: JsonOption = False,
    markdown: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write tables and plots to this Markdown file instead.")
    ] = None,
    template: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Jinja template of the Markdown file; see docs/results.md.")
    ] = None,
) -> None:
    """Show the verdict, every model compared with the reference, and where the HTML page is."""
    settings, home = load_study(study), Home.from_environment()
    wanted = reports_asked_for(settings, cell)
    if template is not None and markdown is None:
        raise typer.BadParameter("goes with --markdown", param_hint="--template")
    if markdown is not None:
        _write_markdown(settings, home, wanted, markdown, template)
    elif as_json:
        print(json.dumps([report_figures(home, c) for c in wanted], indent=2))
    else:
        print_reports(out, settings, home, wanted)


def promote(
    cell: Annotated[str, typer.Argument(metavar="FORGETTING|LEARNING", help="The cell of the model.")],
    study: StudyOption,
    rollback: Annotated[bool, typer.Option("--rollback", help="Go back to the previous champion.")] = False,
) -> None:
    """Make a cell's newest model the champion if the study's `promotion` section allows it. Exit code 1 if not."""
    from dagster_project.tracking.address import tracking_uri
    from dagster_project.tracking.champions import promote_challenger, roll_back

    settings, home = load_study(study), Home.from_environment()
    partition = partition_of_cell(settings, cell)
    if rollback:
        was, now = roll_back(settings, home, tracking_uri(home), partition)
        err.print(Text(f"{cell}: version {now} is the champion again, instead of {was}"), soft_wrap=True)
        return
    decision = promote_challenger(settings, home, tracking_uri(home), partition)
    words = "promoted" if decision.promote else "not promoted"
    err.print(Text(f"{cell}: {words}: {decision.reason}"), soft_wrap=True)
    if not decision.promote:
        raise typer.Exit(1)


def _write_markdown(study: Study, home: Home, wanted: list[Cell], target: Path, template: Path | None) -> None:
    from lwf_assets.comparison.stored_reports import built_reports, built_with
    from lwf_assets.reports.markdown import DEFAULT_TEMPLATE, write_markdown

    facts = {
        "study": study.name,
        "description": study.description,
        "command": " ".join(["lwf", *sys.argv[1:]]),
        **built_with(study, home.store),
    }
    reports = built_reports(study, home.store, wanted)
    for path in write_markdown(reports, target, template=template or DEFAULT_TEMPLATE, facts=facts):
        err.print(Text(str(path)), soft_wrap=True)
