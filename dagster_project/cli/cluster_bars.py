"""Progress of a build on a cluster in the terminal: one table, a line for all of it and one per cell that runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, Task, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from dagster_project.cluster.machine_needs import Node


class ClusterBars:
    """Shows what `builds/on_ray/driver.py` tells: bars for the cells that run, and a line for each that is
    made, which stays."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._all = bars.add_task("artifacts", total=None, node="", visible=False)
        self._rows: dict[str, TaskID] = {}

    def nodes(self, nodes: tuple[Node, ...]) -> None:
        """One line per node."""
        for node in nodes:
            self._print(Text.assemble("node ", (node.name, "cyan"), f": {node}"))

    def count(self, done: int, left: int) -> None:
        """The first line of the table."""
        self._bars.update(self._all, completed=done, total=done + left, visible=True)

    def began(self, cell: str, node: str, *, again: bool) -> None:
        """A line of its own, until it ends."""
        if again:
            self._print(Text(f"{cell}: its process or its node died; it goes on on {node}", style="yellow"))
        self._remove(cell)
        self._rows[cell] = self._bars.add_task(escape(cell), total=None, node=escape(node))

    def phase(self, cell: str, label: str, total: int, done: int) -> None:
        """The cell's bar is that of its phase."""
        row = self._rows.get(cell)
        if row is not None:
            self._bars.update(row, description=escape(f"{cell}  {label}"), total=total, completed=done)

    def ended(self, cell: str, node: str | None, seconds: float | None, problem: str | None) -> None:
        """The bar makes room for a line that stays."""
        self._remove(cell)
        where = f" on {node}" if node is not None else ""
        took = f" in {seconds:.1f} s" if seconds is not None else ""
        if problem is None:
            self._print(Text.assemble((cell, "bold"), f"{where}{took}"))
        else:
            self._print(Text.assemble((cell, "bold"), (f"{where} failed{took}", "red")))

    def said(self, who: str, text: str) -> None:
        """Above the table."""
        self._print(Text(f"{who}: {text}"))

    def _print(self, line: Text) -> None:
        self._bars.console.print(line, soft_wrap=True)

    def _remove(self, cell: str) -> None:
        row = self._rows.pop(cell, None)
        if row is not None:
            self._bars.remove_task(row)


class _Count(MofNCompleteColumn):
    """So many of so many; nothing for a cell that does not say."""

    def render(self, task: Task) -> Text:
        return Text("") if task.total is None else super().render(task)


@contextmanager
def cluster_bars(console: Console) -> Iterator[ClusterBars]:
    """A table on `console` for the length of the block, and nothing of it afterwards; with no terminal behind it, the
    lines that stay are all there is."""
    columns = (
        TextColumn("{task.description}"),
        TextColumn("[cyan]{task.fields[node]}"),
        BarColumn(bar_width=20),
        _Count(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bars:
        yield ClusterBars(bars)
