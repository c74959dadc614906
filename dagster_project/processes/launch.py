"""Has the work of a cell done by several processes, which torchrun starts, and waits for it.

They are heard through Dagster Pipes: progress bars, curves and logs are those of one process.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import dagster as dg
from dagster._core.errors import DagsterPipesExecutionError
from dagster._core.pipes.context import PipesMessageHandler
from dagster_pipes import PipesMessage, PipesParams

from dagster_project.processes.failures import failure_of
from dagster_project.processes.torchrun import ORDER
from dagster_project.processes.watchdog import PARENT
from lwf_assets.building.materialize import Make
from lwf_assets.building.work_order import cores, order_of, refuse_too_many
from lwf_assets.graph.cells import Cell
from lwf_assets.graph.work import Work
from lwf_assets.progress import Progress

FOLDER = "processes"
"""In the scratch of the cell: the order, the processes' output, what they failed of."""


def in_processes(context: dg.AssetExecutionContext) -> Make:
    """Does the work of a cell in as many processes as its study says.

    Raises:
        LwfError: this machine has not as many devices; bad input that a process met; a process that was killed.
        OSError: what the operating system refused to a process.
        ProcessFailedError: a process failed otherwise.
    """

    def make(cell: Cell, work: Work) -> dict[str, Any]:
        refuse_too_many(work.study.compute)
        folder, processes = work.scratch / FOLDER, work.study.compute.processes
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        order = folder / ORDER
        order.write_text(json.dumps(order_of(cell, work)), encoding="utf-8")
        heard = _Heard(work.progress)
        command = [sys.executable, "-m", "dagster_project.processes.torchrun", str(folder), str(processes)]
        try:
            client = dg.PipesSubprocessClient(message_reader=_LiveReader(heard.receive))
            client.run(context=context, command=command, env=_environment(processes))
        except DagsterPipesExecutionError:
            raise failure_of(folder, processes, str(cell)) from None
        finally:
            order.unlink()  # whoever is left of them ends now
        if heard.summary is None:
            raise failure_of(folder, processes, str(cell))
        shutil.rmtree(folder, ignore_errors=True)
        return heard.summary

    return make


def _environment(processes: int) -> dict[str, str]:
    """Of each process: its share of the cores, and no other network than this machine's own."""
    threads = int((os.environ.get("OMP_NUM_THREADS") or str(cores())).partition(",")[0])
    own = {PARENT: str(os.getpid()), "OMP_NUM_THREADS": str(max(1, threads // processes)), "PYTHONUNBUFFERED": "1"}
    return own | ({"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"} if sys.platform == "linux" else {})


class _Heard:
    """What the first process says, passed on as it comes."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self.summary: dict[str, Any] | None = None

    def receive(self, message: dict[str, Any]) -> None:
        """One message."""
        match message:
            case {"begin": [label, total]}:
                self._progress.begin(label, total)
            case {"advance": amount}:
                self._progress.advance(amount)
            case {"metrics": [step, values]}:
                self._progress.metrics(step, values)
            case {"log": [name, level, text]}:
                logging.getLogger(name).log(level, "%s", text)
            case {"summary": summary}:
                self.summary = summary


class _LiveReader(dg.PipesTempFileMessageReader):
    """Hands on what processes of ours say when they say it; Dagster would keep it for the end."""

    def __init__(self, receive: Callable[[dict[str, Any]], None]) -> None:
        super().__init__()
        self._receive = receive

    @contextmanager
    def read_messages(self, handler: PipesMessageHandler) -> Iterator[PipesParams]:
        usual, receive = handler.handle_message, self._receive

        def handle(message: PipesMessage) -> None:
            if message["method"] == "report_custom_message":
                receive((message["params"] or {})["payload"])
            else:
                usual(message)

        handler.handle_message = handle  # type: ignore[method-assign]
        with super().read_messages(handler) as params:
            yield params
