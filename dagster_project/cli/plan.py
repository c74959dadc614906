"""`lwf plan`: what is stale, why, and what it will cost."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from rich.text import Text
from rich.tree import Tree

from dagster_project.cli.arguments import CellOption, JsonOption, StudyOption, cells_asked_for
from dagster_project.cli.console import out
from lwf_assets.store.home import Home
from lwf_assets.study.file import load_study
from lwf_assets.study.study import Study

if TYPE_CHECKING:
    from lwf_assets.planning.forecast import Foreseen, Foresight
    from lwf_assets.planning.plan import Plan


def plan(study: StudyOption, cell: CellOption = None, as_json: JsonOption = False) -> None:
    """Show what is stale, why, and what it will cost in time and memory."""
    from lwf_assets.planning.forecast import foresee
    from lwf_assets.planning.plan import make_plan

    settings, home = load_study(study), Home.from_environment()
    made = make_plan(settings, home.store, home.file_hashes, only=cells_asked_for(settings, cell))
    foresight = foresee(settings, home.store, made)
    if as_json:
        print(json.dumps({"study": settings.name, **foresight.to_dict(made)}, indent=2))
        return
    out.print(_plan_tree(settings, made, foresight))
    if foresight.steps:
        out.print(totals_of(foresight, home), soft_wrap=True)


def totals_of(foresight: Foresight, home: Home) -> Text:
    """What all steps will cost together; times only where something of the kind was built before."""
    from lwf_assets.cost.free_memory import gigabytes
    from lwf_assets.disk.room import free_on_disk, size_as_text

    total = Text(f"{len(foresight.steps)} to build")
    if foresight.seconds is not None:
        total.append(": ").append(_duration(foresight.seconds), style="bold")
        if foresight.untimed:
            total.append(f" without {foresight.untimed} of a kind that was never built here")
    if foresight.memory is not None:
        total.append(f", at most {gigabytes(foresight.memory)} of memory")
    free = free_on_disk(home.root)
    total.append(f", at least {size_as_text(foresight.disk)} of disk")
    if foresight.disk > free:
        total.append(f", of which {size_as_text(free)} are free", style="bold red")
    return total


def _plan_tree(study: Study, made: Plan, foresight: Foresight) -> Tree | Text:
    if not made.stale and not made.blocked:
        return Text(f"Nothing to do: all {len(made.steps)} artifacts of {study.name} are up to date.")
    blocked = f", {len(made.blocked)} blocked" if made.blocked else ""
    tree = Tree(f"[bold]{study.name}[/]: {len(made.stale)} of {len(made.steps)} artifacts to build{blocked}")
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

    figures = [] if step.seconds is None else [_duration(step.seconds)]
    figures += [] if step.memory is None else [gigabytes(step.memory)]
    cost = Text(f"  {', '.join(figures)}" if figures else "", style="green")
    if step.guessed and figures:
        cost.append(" (lengths estimated)", style="dim")
    if step.cannot_fit:
        assert step.free is not None
        cost.append(f"  would not fit: needs {gigabytes(step.surely)}, {gigabytes(step.free)} free", style="bold red")
    return cost


def _duration(seconds: float) -> str:
    """An estimate in two digits."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"~{seconds / size:.{0 if seconds >= 10 * size else 1}f} {unit}"
    return f"~{seconds:.0f} s" if seconds >= 1 else "<1 s"
