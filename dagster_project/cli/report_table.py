"""What `lwf report` prints: the verdict, every model compared with the reference, and where the page is."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from lwf_assets.graph.cells import Cell
from lwf_assets.store.home import Home
from lwf_assets.store.layout import LEADERBOARD_PAGE, REPORT_PAGE, read_summary
from lwf_assets.store.partition import Partition
from lwf_assets.study.study import Study


def report_figures(home: Home, cell: Cell) -> dict[str, Any]:
    """The summary of a cell's report, with where its page, its checkpoint and its MLflow run are.

    Raises:
        LwfError: the report is not built.
    """

    artifact = home.store.built(cell.asset, cell.partition)
    checkpoint = home.store.built("lwf_checkpoint", cell.partition)
    run = checkpoint.manifest.provenance.get("mlflow_run")
    return {
        **read_summary(artifact.path),
        "page": str(artifact.path / REPORT_PAGE),
        "checkpoint": str(checkpoint.path),
        "mlflow_run": run,
    }


def print_reports(out: Console, study: Study, home: Home, wanted: list[Cell]) -> None:
    """Of each cell the verdict, its models, and where to read more."""
    for cell in wanted:
        figures = report_figures(home, cell)
        out.print(Text(f"{figures['learning_task']}, forgetting {figures['forgetting_task']}", style="italic"))
        out.print(Text(figures["outcome"], style="bold"), soft_wrap=True)
        _print_models(out, figures)
        out.print(
            "NLL in nats per token; forgotten and kept: the model's own samples that were and were not unlearned."
        )
        for name in ("page", "checkpoint", "mlflow_run"):
            if figures[name] is not None:
                out.print(Text(f"  {name.replace('_', ' ')}: {figures[name]}"), soft_wrap=True)
    board = home.store.current("leaderboard", Partition())
    if board is not None and len(wanted) > 1:
        out.print(Text(f"leaderboard of {study.name}: {board.path / LEADERBOARD_PAGE}"), soft_wrap=True)


def _print_models(out: Console, figures: dict[str, Any]) -> None:
    """A row a model; on a narrow terminal, which would cut names and figures off, a line a figure."""
    table = _table_of_models(figures)
    if Measurement.get(out, out.options.update(max_width=10_000), table).maximum <= out.width:
        out.print(table)
        return
    titles = [str(column.header) for column in table.columns]
    for row in zip(*(list(column.cells) for column in table.columns), strict=True):
        out.print(Text("\n").append(str(row[0]), style="bold"))
        for title, cell in zip(titles[1:], row[1:], strict=True):
            if str(cell):
                out.print(Text(f"  {title + ':':<25}{cell}"), soft_wrap=True)
    out.print()


def _table_of_models(figures: dict[str, Any]) -> Table:
    """Every model's figures, and what it does differently from the reference in the primary measure."""
    from lwf_assets.comparison.measures import measure_name

    primary = figures["primary_measure"]
    columns = {primary: measure_name(primary), "accuracy": "accuracy", "target_nll": "target NLL"}
    columns |= {"forgotten_nll": "forgotten NLL", "kept_nll": "kept NLL"}
    effects = {e["model"]: e for e in figures["effects"] if e["measure"] == primary}
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("model", no_wrap=True)
    for name, title in columns.items():
        table.add_column(title.lower() if name == primary else title, justify="right", no_wrap=True)
    table.add_column("vs. reference (95 % CI)", justify="right", no_wrap=True)
    table.add_column("verdict")
    for entry in figures["models"]:
        effect = effects.get(entry["model"])
        table.add_row(
            Text(entry["label"] or entry["model"]),
            *(_mean(entry["measures"].get(name)) for name in columns),
            *(("", "") if effect is None else (_interval(effect["difference"]), effect["verdict"])),
        )
    return table


def _mean(values: dict[str, float | None] | None) -> str:
    return "-" if values is None or values["mean"] is None else f"{values['mean']:.3f}"


def _interval(values: dict[str, float | None]) -> str:
    if values["mean"] is None:
        return "-"
    if values["low"] is None:
        return f"{values['mean']:+.3f}"
    return f"{values['mean']:+.3f} ({values['low']:+.3f} to {values['high']:+.3f})"
