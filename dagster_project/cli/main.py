"""The command line: `lwf plan`, `build`, `report`, `sql`, `ui`, and those of `lineage_cli`.

Results go to stdout and everything else to stderr; with --json, stdout holds JSON and nothing else. Errors that the
user can mend end with exit code 1 and one message, usage errors with 2.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from dagster_project.cli import lineage as lineage_cli
from dagster_project.cli.report_table import print_reports, report_figures
from dagster_project.tracking.address import PORT
from lwf_assets.errors import LwfError
from lwf_assets.graph.cells import Cell, cells
from lwf_assets.graph.table import ASSET
from lwf_assets.store.home import DEFAULT_STUDY, STUDY_VARIABLE, Home
from lwf_assets.store.partition import Partition
from lwf_assets.study.file import load_study
from lwf_assets.study.study import Study

if TYPE_CHECKING:
    from dagster_project.builds.batches import RunBatch
    from lwf_assets.planning.forecast import Foreseen, Foresight
    from lwf_assets.planning.plan import Plan

app = typer.Typer(
    name="lwf",
    help="Learning With Forgetting: fine-tune a language model while it unlearns what conflicts.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
out = Console()
err = Console(stderr=True)

StudyOption = Annotated[
    Path,
    typer.Option(
        "--study", "-s", envvar=STUDY_VARIABLE, help="The study file.", show_default="studies/quickstart.yaml"
    ),
]
CellOption = Annotated[
    str | None, typer.Option("--cell", metavar="FORGETTING|LEARNING", help="One cell only, with all it is made from.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON on stdout, and nothing else there.")]


@app.command()
def plan(study: StudyOption = DEFAULT_STUDY, cell: CellOption = None, as_json: JsonOption = False) -> None:
    """What is stale, why, and what it will cost in time and memory."""
    from lwf_assets.planning.forecast import foresee
    from lwf_assets.planning.plan import make_plan

    settings, home = load_study(study), Home.from_environment()
    made = make_plan(settings, home.store, home.file_hashes, only=_only(settings, cell))
    foresight = foresee(settings, home.store, made)
    if as_json:
        print(json.dumps({"study": settings.name, **foresight.to_dict(made)}, indent=2))
        return
    out.print(_plan_tree(settings, made, foresight))
    if foresight.steps:
        out.print(_totals(foresight), soft_wrap=True)


@app.command()
def build(
    study: StudyOption = DEFAULT_STUDY,
    cell: CellOption = None,
    force: Annotated[
        list[str] | None, typer.Option("--force", metavar="ASSET", help="Make this asset anew, even if it is fresh.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make everything fresh that is stale; what the store has already is taken from it."""
    from lwf_assets.planning.forecast import foresee
    from lwf_assets.planning.plan import make_plan

    settings, home = load_study(study), Home.from_environment()
    only = _only(settings, cell)
    forced = _forced(settings, force or [], only)
    began = time.time()
    made = make_plan(settings, home.store, home.file_hashes, only=only, force=forced)
    foresight = foresee(settings, home.store, made)
    if foresight.steps:
        err.print(_totals(foresight), soft_wrap=True)
    # Dagster takes seconds to import, which a build with nothing to do can spare.
    ran = _run_build(settings, home, only, forced) if made.stale or made.blocked else []
    seconds = time.time() - began
    if as_json:
        built = [{"asset": c.asset, "partition": c.partition.key} for c in ran]
        print(json.dumps({"study": settings.name, "ran": built, "seconds": round(seconds, 2)}, indent=2))
        return
    if not ran:
        err.print(f"Nothing to do: all {len(made.steps)} artifacts of {cell or settings.name} are fresh.")
    else:
        err.print(f"Built {len(ran)} artifacts in {seconds:.0f} s.")
    print_reports(out, settings, home, _report_cells(settings, cell))


@app.command()
def report(
    study: StudyOption = DEFAULT_STUDY,
    cell: CellOption = None,
    as_json: JsonOption = False,
    markdown: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write tables and plots to this Markdown file instead.")
    ] = None,
    template: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Jinja template of the Markdown file; see docs/results.md.")
    ] = None,
) -> None:
    """The verdict, every model beside the reference, and where the page is."""
    settings, home = load_study(study), Home.from_environment()
    wanted = _report_cells(settings, cell)
    if template is not None and markdown is None:
        raise typer.BadParameter("goes with --markdown", param_hint="--template")
    if markdown is not None:
        _write_markdown(settings, home, wanted, markdown, template)
    elif as_json:
        print(json.dumps([report_figures(home, c) for c in wanted], indent=2))
    else:
        print_reports(out, settings, home, wanted)


@app.command()
def promote(
    cell: Annotated[str, typer.Argument(metavar="FORGETTING|LEARNING", help="The cell whose model is meant.")],
    study: StudyOption = DEFAULT_STUDY,
    rollback: Annotated[bool, typer.Option("--rollback", help="Go back to the champion before.")] = False,
) -> None:
    """Make a cell's newest model the champion, if the study's `promotion` section allows it. Exit code 1 if not."""
    from dagster_project.tracking.address import tracking_uri
    from dagster_project.tracking.champions import promote_challenger, roll_back

    settings, home = load_study(study), Home.from_environment()
    partition = _cell_partition(settings, cell)
    if rollback:
        was, now = roll_back(settings, home, tracking_uri(home), partition)
        err.print(Text(f"{cell}: version {now} is the champion again, instead of {was}"), soft_wrap=True)
        return
    decision = promote_challenger(settings, home, tracking_uri(home), partition)
    words = "promoted" if decision.promote else "not promoted"
    err.print(Text(f"{cell}: {words}: {decision.reason}"), soft_wrap=True)
    if not decision.promote:
        raise typer.Exit(1)


@app.command()
def sql(
    query: Annotated[str, typer.Argument(help='For example "SELECT * FROM scored_forget_set WHERE selected LIMIT 5".')],
    study: StudyOption = DEFAULT_STUDY,
    as_json: JsonOption = False,
) -> None:
    """DuckDB over what is current in the store: one view per table of each asset."""
    from dagster_project.cli.sql import query_store

    names, rows = query_store(load_study(study), Home.from_environment().store, query)
    if as_json:
        print(json.dumps([dict(zip(names, row, strict=True)) for row in rows], indent=2, default=str))
        return
    table = Table(*names)
    for row in rows:
        table.add_row(*(Text("" if value is None else str(value)) for value in row))
    out.print(table)


@app.command()
def ui(
    study: StudyOption = DEFAULT_STUDY,
    dagster_port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the Dagster UI.")] = 3000,
    mlflow_port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the MLflow UI.")] = PORT,
    host: Annotated[str, typer.Option(help="Address to listen on. Neither UI asks who is there.")] = "127.0.0.1",
) -> None:
    """The Dagster UI with its daemon, and the MLflow UI, until Ctrl-C: on this machine's loopback address unless told
    otherwise."""
    from dagster_project.ui.servers import serve

    load_study(study)  # a mistake in it is told here and not in a server's log
    serve(study.resolve(), Home.from_environment(), host, dagster_port, mlflow_port, tell=err.print)


for command in (lineage_cli.audit, lineage_cli.trace, lineage_cli.diff, lineage_cli.keep, lineage_cli.gc):
    app.command()(command)


def main() -> None:
    """Entry point: one message and exit code 1 for what the user can mend."""
    try:
        app()
    except LwfError as error:
        err.print(Text.assemble(("Error: ", "bold red"), str(error)), soft_wrap=True)
        sys.exit(1)


def _run_build(study: Study, home: Home, only: list[Cell] | None, forced: list[Cell]) -> list[Cell]:
    from dagster_project.cli.progress_bars import PhaseBars, phase_bars, quiet_libraries

    quiet_libraries()
    from dagster_project.builds.builder import build as run_build
    from dagster_project.resources import LwfHome

    with phase_bars(err) as bars:
        LwfHome.watch = lambda label: PhaseBars(bars, label)

        def tell(batch: RunBatch) -> None:
            names = ", ".join(c.asset for c in batch.cells)
            line = Text.assemble((batch.partition.key or study.name, "bold"), f": {names}")
            bars.console.print(line, soft_wrap=True)

        return run_build(study, home, only=only, force=forced, tell=tell)


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


def _cell_partition(study: Study, key: str) -> Partition:
    names = key.split("|")
    there = [c.partition for c in cells(study) if c.asset == "eval_report"]
    if len(names) != 2 or Partition(*names) not in there:
        keys = ", ".join(str(partition.key) for partition in there)
        raise LwfError(f"the study {study.name} has no cell {key!r}; write FORGETTING|LEARNING, one of: {keys}")
    return Partition(*names)


def _only(study: Study, key: str | None) -> list[Cell] | None:
    return None if key is None else [Cell("eval_report", _cell_partition(study, key))]


def _forced(study: Study, assets: list[str], only: list[Cell] | None) -> list[Cell]:
    from lwf_assets.planning.plan import with_ancestors

    unknown = [name for name in assets if name not in ASSET]
    if unknown:
        raise LwfError(f"--force: there is no asset {unknown[0]!r}; the assets are {', '.join(ASSET)}")
    among = cells(study) if only is None else with_ancestors(study, only)
    return [c for c in among if c.asset in assets]


def _report_cells(study: Study, key: str | None) -> list[Cell]:
    return _only(study, key) or [c for c in cells(study) if c.asset == "eval_report"]


def _plan_tree(study: Study, made: Plan, foresight: Foresight) -> Tree | Text:
    if not made.stale and not made.blocked:
        return Text(f"Nothing to do: all {len(made.steps)} artifacts of {study.name} are fresh.")
    blocked = f", {len(made.blocked)} blocked" if made.blocked else ""
    tree = Tree(f"[bold]{study.name}[/]: {len(made.stale)} of {len(made.steps)} artifacts to do{blocked}")
    branches: dict[str, Tree] = {}
    for step in made.steps:
        if step.is_stale or step in made.blocked:
            asset = step.cell.asset
            branch = branches.get(asset) or branches.setdefault(asset, tree.add(f"[bold]{asset}[/]"))
            words = Text.assemble((f"{step.cell.partition}  ", "cyan"), (step.action.value, "yellow"))
            foreseen = foresight.steps.get(step.cell)
            leaf = branch.add(words if foreseen is None else words.append_text(_foreseen(foreseen)))
            for reason in step.reasons:
                leaf.add(Text(reason, style="dim"))
    return tree


def _foreseen(step: Foreseen) -> Text:
    """What one step will cost."""
    from lwf_assets.cost.free_memory import gigabytes

    told = Text(f"  {_duration(step.seconds)}", style="green")
    if step.memory is not None:
        told.append(f", {gigabytes(step.memory)}")
    if step.guessed:
        told.append(" (lengths guessed)", style="dim")
    if step.cannot_fit:
        assert step.free is not None
        told.append(f"  would not fit: needs {gigabytes(step.surely)}, {gigabytes(step.free)} here", style="bold red")
    return told


def _totals(foresight: Foresight) -> Text:
    """What all steps will cost together."""
    from lwf_assets.cost.free_memory import gigabytes

    told = Text.assemble(f"{len(foresight.steps)} to make: ", (_duration(foresight.seconds), "bold"))
    if foresight.untimed:
        told.append(f" ({foresight.untimed} of them never timed here)")
    if foresight.memory is not None:
        told.append(f", at most {gigabytes(foresight.memory)} of memory")
    return told


def _duration(seconds: float | None) -> str:
    """An estimate in two digits; `?` where there is none."""
    if seconds is None:
        return "?"
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"~{seconds / size:.{0 if seconds >= 10 * size else 1}f} {unit}"
    return f"~{seconds:.0f} s" if seconds >= 1 else "<1 s"
