"""What several commands take: the study, one of its cells, JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lwf_assets.errors import LwfError
from lwf_assets.graph.cells import Cell, cells
from lwf_assets.store.home import STUDY_VARIABLE, default_study
from lwf_assets.store.partition import Partition
from lwf_assets.study.study import Study

StudyOption = Annotated[
    Path,
    typer.Option(
        "--study",
        "-s",
        envvar=STUDY_VARIABLE,
        default_factory=default_study,
        help="The study file.",
        show_default="study.yaml here, or else the quickstart",
    ),
]
CellOption = Annotated[
    str | None,
    typer.Option("--cell", metavar="FORGETTING|LEARNING", help="One cell only, with everything it is made from."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else on stdout.")]


def partition_of_cell(study: Study, key: str) -> Partition:
    """The cell that is written FORGETTING|LEARNING.

    Raises:
        LwfError: the study does not have it; the message lists those there are.
    """
    names = key.split("|")
    there = [c.partition for c in cells(study) if c.asset == "eval_report"]
    if len(names) != 2 or Partition(*names) not in there:
        keys = ", ".join(str(partition.key) for partition in there)
        raise LwfError(f"the study {study.name} has no cell {key!r}; write FORGETTING|LEARNING, one of: {keys}")
    return Partition(*names)


def cells_asked_for(study: Study, key: str | None) -> list[Cell] | None:
    """The report of one cell, which stands for all that it is made from; None: the whole study."""
    return None if key is None else [Cell("eval_report", partition_of_cell(study, key))]


def reports_asked_for(study: Study, key: str | None) -> list[Cell]:
    """The report of one cell, or of every cell."""
    return cells_asked_for(study, key) or [c for c in cells(study) if c.asset == "eval_report"]
