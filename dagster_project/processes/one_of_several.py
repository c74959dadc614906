"""One of the processes that share a step: `torchrun -m dagster_project.processes.one_of_several FOLDER`.

The first tells the build by Dagster Pipes what happens, and what came out. A process that fails writes why into
FOLDER/error-<rank>.json.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dagster_pipes import PipesContext, open_dagster_pipes

from dagster_project.processes.torchrun import MEETING_POINT, ORDER
from dagster_project.processes.watchdog import end_when_unwanted
from lwf_assets.errors import LwfError
from lwf_assets.progress import SILENT, Progress

FAILED = 3
"""What a process exits with that has said why."""
EVERY = 0.1
"""Seconds between two messages of how far a phase is."""

Send = Callable[[dict[str, Any]], None]


class Told:
    """Sends the progress of the first process as messages; many small advances as one."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._amount = 0
        self._last = 0.0

    def begin(self, label: str, total: int) -> None:
        """With what is left of the phase before."""
        self.flush()
        self._send({"begin": [label, total]})

    def advance(self, amount: int = 1) -> None:
        """Now and then."""
        self._amount += amount
        if time.monotonic() - self._last >= EVERY:
            self.flush()

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """At once."""
        self._send({"metrics": [step, dict(values)]})

    def flush(self) -> None:
        """Send what was not sent yet."""
        self._last = time.monotonic()
        if self._amount:
            self._send({"advance": self._amount})
            self._amount = 0


class _Records(logging.Handler):
    """Sends what is logged."""

    def __init__(self, send: Send) -> None:
        super().__init__(logging.WARNING)
        self._send_message = send

    def emit(self, record: logging.LogRecord) -> None:
        self._send_message({"log": [record.name, record.levelno, record.getMessage()]})


def main() -> None:
    """Take part in the work."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)  # end at once: the next build goes on from what is in scratch
    folder, rank = Path(sys.argv[1]), int(os.environ["RANK"])
    end_when_unwanted(folder / ORDER)
    try:
        if rank == 0:
            with open_dagster_pipes() as pipes:
                _work(folder, pipes)
        else:
            _work(folder, None)
    except Exception as error:
        traceback.print_exc()
        _say_why(error, folder / f"error-{rank}.json")
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(FAILED)  # at the usual end a process waits for those that it computes with


def _work(folder: Path, pipes: PipesContext | None) -> None:
    from lwf_assets.building.work_order import carry_out
    from lwf_assets.engine.processes import joined

    order = json.loads((folder / ORDER).read_text(encoding="utf-8"))
    progress: Progress = SILENT
    if pipes is not None:
        progress = told = Told(pipes.report_custom_message)
        logging.getLogger("lwf_assets").addHandler(_Records(pipes.report_custom_message))
    with joined(folder / MEETING_POINT):
        summary = carry_out(order, progress)
    if pipes is not None:
        told.flush()
        pipes.report_custom_message({"summary": summary})


def _say_why(error: Exception, path: Path) -> None:
    said = {
        "kind": "input" if isinstance(error, LwfError) else "system" if isinstance(error, OSError) else "other",
        "type": type(error).__name__,
        "message": str(error),
        "errno": getattr(error, "errno", None),
        "strerror": getattr(error, "strerror", None),
        "filename": str(getattr(error, "filename", None) or "") or None,
        "time": time.time(),
    }
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(said), encoding="utf-8")
    os.replace(unfinished, path)


if __name__ == "__main__":
    main()
