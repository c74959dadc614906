"""`lwf track`: what MLflow does not know yet."""

from __future__ import annotations

import json
import time
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from dagster_project.cli.arguments import JsonOption
from dagster_project.cli.console import err, out
from lwf_assets.store.home import Home
from lwf_assets.store.manifest import cell_name


def track(
    resend: Annotated[bool, typer.Option("--resend", help="Send what is left.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List the runs that are not recorded in MLflow yet, as after an outage. --resend sends them; exit code 1 if some
    are left."""
    from dagster_project.tracking.address import shown, tracking_uri
    from dagster_project.tracking.journal import read_journal, waiting_journals

    home = Home.from_environment()
    uri = tracking_uri(home)
    before = len(waiting_journals(home.root))
    why: dict[str, str] = {}
    if resend and before:
        from dagster_project.cli.progress_bars import quiet_libraries
        from dagster_project.tracking.send import resend as send_all

        quiet_libraries()
        why = {path.stem: reason for path, reason in send_all(uri, home)}
    journals = [read_journal(path) for path in waiting_journals(home.root)]
    rows = [
        {
            "run": journal.id,
            "study": journal.entries[0]["study"],
            "cell": cell_name(journal.entries[0]["asset"], journal.entries[0]["partition"]),
            "began": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(journal.entries[0]["time"] / 1000)),
            "entries": len(journal.entries) - journal.sent.entries,
            "why": why.get(journal.id, ""),
        }
        for journal in journals
        if journal.entries
    ]
    if as_json:
        print(json.dumps({"mlflow": shown(uri), "waiting": rows, "sent": before - len(journals)}, indent=2))
    elif rows:
        table = Table("study", "cell", "began", "entries", "why")
        for row in rows:
            table.add_row(*(Text(str(row[name])) for name in ("study", "cell", "began", "entries", "why")))
        out.print(table)
    if not as_json:
        sent = f"{before - len(journals)} sent, " if resend else ""
        err.print(Text(f"{shown(uri)}: {sent}{len(rows)} waiting."), soft_wrap=True)
    if resend and rows:
        raise typer.Exit(1)
