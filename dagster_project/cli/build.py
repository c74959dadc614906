"""`lwf build`: brings everything that is stale up to date."""

from __future__ import annotations

import json
import time
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from dagster_project.cli.arguments import CellOption, JsonOption, StudyOption, cells_asked_for, reports_asked_for
from dagster_project.cli.console import err, out
from dagster_project.cli.plan import totals_of
from dagster_project.cli.report_table import print_reports
from lwf_assets.building.refusals import refusals_told
from lwf_assets.disk.room import size_as_text
from lwf_assets.errors import LwfError
from lwf_assets.graph.cells import Cell, cells
from lwf_assets.graph.table import ASSET
from lwf_assets.store.home import Home
from lwf_assets.study.file import load_study
from lwf_assets.study.study import Study

if TYPE_CHECKING:
    from dagster_project.builds.batches import RunBatch


def build(
    study: StudyOption,
    cell: CellOption = None,
    force: Annotated[
        list[str] | None, typer.Option("--force", metavar="ASSET", help="Rebuild this asset even if it is up to date.")
    ] = None,
    processes: Annotated[
        int | None,
        typer.Option("--processes", min=1, metavar="N", help="Processes that share a step, in place of the study's."),
    ] = None,
    on: Annotated[
        str | None,
        typer.Option(
            "--on",
            metavar="ADDRESS",
            envvar="LWF_ON",
            help="Build on a Ray cluster: ray://HOST:10001, HOST:6379 on one of its nodes, or auto.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Build everything that is stale; reuse what the store already has."""
    from dagster_project.tracking.send import send_what_is_left
    from lwf_assets.building.work_order import refuse_too_many
    from lwf_assets.cost.process_limits import refuse_tight_limits
    from lwf_assets.planning.forecast import foresee
    from lwf_assets.planning.plan import make_plan

    settings, home = load_study(study), Home.from_environment()
    if processes is not None:
        settings = settings.model_copy(update={"compute": settings.compute.model_copy(update={"processes": processes})})
    only = cells_asked_for(settings, cell)
    forced = _forced(settings, force or [], only)
    began = time.monotonic()
    made = make_plan(settings, home.store, home.file_hashes, only=only, force=forced)
    foresight = foresee(settings, home.store, made)
    if foresight.steps and on is None:
        err.print(totals_of(foresight, home), soft_wrap=True)
    # Dagster takes seconds to import, which a build with nothing to do can spare.
    if foresight.steps and on is None:
        refuse_tight_limits(foresight.memory)
        refuse_too_many(settings.compute)

    def told(said: str) -> str:
        return f"{said}. This build writes at least {size_as_text(foresight.disk)}; the next one goes on from here"

    with refusals_told(home.root, told):
        run = _run_build if on is None else partial(_run_on_cluster, on)
        ran = run(settings, home, only, forced) if made.stale or made.blocked else []
    seconds = time.monotonic() - began
    unsent = send_what_is_left(home)
    if unsent is not None:
        err.print(Text(unsent), soft_wrap=True)
    if as_json:
        built = [{"asset": c.asset, "partition": c.partition.key} for c in ran]
        print(json.dumps({"study": settings.name, "ran": built, "seconds": round(seconds, 2)}, indent=2))
        return
    if not ran:
        err.print(f"Nothing to do: all {len(made.steps)} artifacts of {cell or settings.name} are up to date.")
    else:
        err.print(f"Built {len(ran)} artifacts in {seconds:.0f} s.")
    print_reports(out, settings, home, reports_asked_for(settings, cell))


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


def _run_on_cluster(address: str, study: Study, home: Home, only: list[Cell] | None, forced: list[Cell]) -> list[Cell]:
    from dagster_project.cli.cluster_bars import cluster_bars
    from dagster_project.cli.progress_bars import quiet_libraries

    quiet_libraries()
    from dagster_project.builds.on_ray.driver import build_on_ray

    with cluster_bars(err) as bars:
        return build_on_ray(study, home, address, bars, only=only, force=forced)


def _forced(study: Study, assets: list[str], only: list[Cell] | None) -> list[Cell]:
    from lwf_assets.planning.plan import with_ancestors

    unknown = [name for name in assets if name not in ASSET]
    if unknown:
        raise LwfError(f"--force: unknown asset {unknown[0]!r}; choose from {', '.join(ASSET)}")
    among = cells(study) if only is None else with_ancestors(study, only)
    return [c for c in among if c.asset in assets]
