"""MLflow: one parent run per Dagster run, one nested run per asset partition, curves while they grow.

A step never waits for MLflow and never fails by it: what is to be recorded is written into a journal, which a thread
sends. While MLflow is away, everything waits in the journal (see `journal.py`, `send.py`).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import dagster as dg

from dagster_project.runs.secrets import redacted
from dagster_project.tracking.address import shown, web_address
from dagster_project.tracking.journal import END, MADE, POINTS, Journal, new_journal
from dagster_project.tracking.send import NotSentError, finite, resend, send
from lwf_assets.building.materialize import Materialized
from lwf_assets.graph.cells import Cell
from lwf_assets.progress import Silent
from lwf_assets.store.home import Home
from lwf_assets.study.study import Study

EVERY = 1.0
"""Seconds between two looks at what is to be sent."""
PATIENCE = 30.0
"""Seconds that the end of a step waits for a request that is under way."""
FIRST_WAIT, LONGEST_WAIT = 2.0, 60.0
"""Seconds until MLflow is tried again while it is away; each wait is twice the one before."""

_log = logging.getLogger("lwf.tracking")


class Curves(Silent):
    """Writes the points of a step's curves into its journal as they come."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Of those that are finite."""
        self._journal.add(POINTS, step=step, values=finite(values))


class Outage:
    """Since when MLflow has been away, for this process: told once, and once more when it is back."""

    def __init__(self) -> None:
        self.since: float | None = None
        self._wait = FIRST_WAIT
        self._next = 0.0

    @property
    def is_over(self) -> bool:
        """Whether it is time to try again."""
        return self.since is None or time.monotonic() >= self._next

    def began(self, uri: str, home: Home, why: str) -> None:
        """It did not take something."""
        if self.since is None:
            self.since, self._wait = time.monotonic(), FIRST_WAIT
            _log.warning(
                "MLflow at %s has been away since %s (%s). The build goes on; what is to be recorded waits in %s and "
                "is sent when MLflow is back.",
                *(shown(uri), time.strftime("%H:%M:%S"), why, home.root / "tracking"),
            )
        self._next = time.monotonic() + self._wait
        self._wait = min(2 * self._wait, LONGEST_WAIT)

    def ended(self, uri: str) -> None:
        """It took something."""
        if self.since is not None:
            minutes = (time.monotonic() - self.since) / 60
            _log.warning("MLflow at %s is back after %.0f minutes.", shown(uri), minutes)
            self.since = None


OUTAGE = Outage()


class TrackedCell:
    """The nested MLflow run of one cell."""

    def __init__(self, journal: Journal, uri: str, home: Home, study: Study, cell: Cell, dagster_run: str) -> None:
        self._journal = journal
        self._uri = uri
        self._home = home
        self._study = study
        self._cell = cell
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._send_as_it_comes, name=f"tracking of {cell}", daemon=True)
        self.curves = Curves(journal)
        self.provenance: dict[str, Any] = {"dagster_run": dagster_run}
        """What the manifest says of the runs that made it; the MLflow run is in it as soon as there is one."""

    @property
    def links(self) -> dict[str, dg.MetadataValue[Any]]:
        """The run's page in MLflow; of an asset with an HTML page, that page among its artifacts. None while MLflow has
        no such run."""
        sent = self._journal.sent
        if sent.run is None:
            return {}
        page = f"{web_address(self._uri)}/#/experiments/{sent.experiment}/runs/{sent.run}"
        pages = {"mlflow_run": page}
        if self._cell.spec.page is not None:
            pages["report"] = f"{page}/artifacts/{self._cell.spec.page}"
        return {name: dg.MetadataValue.url(page) for name, page in pages.items()}

    def begin(self) -> None:
        """Open the run, if MLflow is there, and send from now on what comes."""
        self._try_to_send(whole=False)
        self._thread.start()

    def log(self, materialized: Materialized) -> None:
        """What the cell is made from and what came of it; for an LWF checkpoint, the registered model."""
        self._journal.add(
            MADE,
            asset=self._cell.asset,
            partition=self._cell.partition.key,
            recipe=materialized.artifact.manifest.recipe,
            reused=materialized.reused,
            study=self._study.name,
            seed=self._study.seeds[0],
        )

    def end(self, status: str, error: str = "", *, wait: bool = True) -> None:
        """Close the run, and send what is left if MLflow is there; without `wait`, leave that to the next build."""
        self._journal.add(END, status=status, error=redacted(error))
        self._stop.set()
        if not wait:
            return
        self._thread.join(PATIENCE)
        if not self._thread.is_alive():
            self._try_to_send(whole=True)

    def _send_as_it_comes(self) -> None:
        while not self._stop.wait(EVERY):
            if self._journal.sent.entries < len(self._journal.entries):
                self._try_to_send(whole=False)

    def _try_to_send(self, *, whole: bool) -> None:
        if not OUTAGE.is_over and not whole:
            return
        try:
            send(self._journal, self._uri, self._home, whole=whole)
        except NotSentError as error:
            OUTAGE.began(self._uri, self._home, str(error))
            return
        OUTAGE.ended(self._uri)
        if self._journal.sent.run is not None:
            self.provenance["mlflow_run"] = self._journal.sent.run


@contextmanager
def tracked_cell(
    uri: str, home: Home, context: dg.AssetExecutionContext, study: Study, cell: Cell
) -> Iterator[TrackedCell]:
    """The nested run of `cell`, ended with the block. What earlier steps could not send is sent first."""
    if OUTAGE.is_over:
        resend(uri, home)
    begin = {
        "study": study.name,
        "asset": cell.asset,
        "partition": cell.partition.key,
        "dagster_run": context.run_id,
        "dagster_partition": context.partition_key if context.has_partition_key else None,
        "job": context.job_name,
    }
    with new_journal(home.root, begin) as journal:
        tracked = TrackedCell(journal, uri, home, study, cell, context.run_id)
        tracked.begin()
        try:
            yield tracked
        except Exception as error:
            tracked.end("FAILED", str(error))
            raise
        except BaseException:  # somebody wants it to stop now
            tracked.end("KILLED", "it was interrupted", wait=False)
            raise
        tracked.end("FINISHED")
