"""Progress in the terminal: one bar per phase, and quiet libraries."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from lwf_assets.progress import Silent


class PhaseBars(Silent):
    """One bar per phase of a cell's work."""

    def __init__(self, bars: Progress, cell: str) -> None:
        self._bars = bars
        self._cell = cell
        self._task: TaskID | None = None

    def begin(self, label: str, total: int) -> None:
        """Close the last phase's bar and open one."""
        self._task = self._bars.add_task(escape(f"{self._cell}  {label}"), total=total)

    def advance(self, amount: int = 1) -> None:
        """Move the bar."""
        if self._task is not None:
            self._bars.advance(self._task, amount)


@contextmanager
def phase_bars(console: Console) -> Iterator[Progress]:
    """Bars on `console` for the length of the block; with no terminal behind it, a line when a phase ends."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as bars:
        yield bars


def quiet_libraries() -> None:
    """Warnings and logs of the libraries below are for developers; errors still come through."""
    os.environ.setdefault("TQDM_DISABLE", "1")  # the phases below have bars of their own
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    warnings.filterwarnings("ignore")
    for name in ("dagster", "alembic", "accelerate", "datasets"):
        logging.getLogger(name).setLevel(logging.ERROR)
