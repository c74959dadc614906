"""`lwf init`: a first study for somebody's own data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from dagster_project.cli.console import err


def init(
    directory: Annotated[Path, typer.Argument(help="Where to write the study; it is made if need be.")] = Path(),
    data: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Your rows: JSON, JSON Lines, CSV, TSV or Parquet, or a directory of them."),
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="ID_OR_DIR", help="A directory with a model, or the id of one on the hub.")
    ] = None,
    revision: Annotated[str | None, typer.Option(metavar="COMMIT", help="Commit of a model on the hub.")] = None,
) -> None:
    """Write a commented study and forgetting prompts for your data; say what was guessed and what to do next."""
    from lwf_assets.errors import LwfError
    from lwf_assets.starting.first_study import write_first_study

    if data is None:
        raise LwfError(
            "--data: missing; give a file of rows, such as `lwf init --data tickets.csv`. Each has a question and an "
            "answer, or is a conversation (`messages`)"
        )
    made = write_first_study(directory, data, model=model, revision=revision)
    err.print(Text(f"Looked at {made.guess.rows} rows of {data}:"), soft_wrap=True)
    for line in made.guess.why:
        err.print(Text(f"  {line}"), soft_wrap=True)
    err.print(Text(f"  so the scorer is {made.guess.scorer}"), soft_wrap=True)
    err.print(Text(f"Wrote {made.study} and {made.prompts}; the study says what may be changed."), soft_wrap=True)
    here = made.study.resolve() == Path("study.yaml").resolve()
    option = "" if here else f" --study {made.study}"
    err.print(Text.assemble("Next: ", (f"lwf check{option}", "bold"), ", then ", (f"lwf build{option}", "bold")))
