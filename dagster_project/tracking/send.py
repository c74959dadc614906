"""Sends journals to MLflow: in the order of their entries, each entry once, however often it is tried.

Everything goes through `MlflowClient` and run ids: MLflow's global "active run" would be shared by whatever else runs
in the process. Sending an entry again, because a process died before it could note that it had, changes nothing: runs
are found by a tag, and equal points of a curve are one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from dagster_project.runs.secrets import redacted
from dagster_project.tracking.address import is_there, shown, tracking_uri
from dagster_project.tracking.client import experiment_of, open_client
from dagster_project.tracking.journal import BEGIN, END, MADE, POINTS, Journal, left_journal, waiting_journals
from dagster_project.tracking.registry import RECIPE_TAG, VERSION_TAG, register, registered_name
from lwf_assets.graph.cells import Cell
from lwf_assets.graph.table import ASSET
from lwf_assets.store.home import Home
from lwf_assets.store.manifest import Manifest, cell_name
from lwf_assets.store.partition import Partition

if TYPE_CHECKING:
    from mlflow import MlflowClient

JOURNAL_TAG = "lwf.journal"
POINTS_AT_ONCE = 900
"""Metrics in one request; MLflow takes up to 1,000."""


class NotSentError(Exception):
    """MLflow did not take it; the text says why."""


def send(journal: Journal, uri: str, home: Home, *, whole: bool) -> None:
    """Send what is not sent yet.

    Args:
        journal: of a run; this process has its lock.
        uri: MLflow's address.
        home: where the artifacts are.
        whole: also what takes long: files, data sets and registered models. Without it, sending ends before those.

    Raises:
        NotSentError: MLflow is away, or refuses. The journal knows how far it came.
    """
    if not uri.startswith("sqlite:") and not is_there(uri):
        raise NotSentError("it takes no connection")
    try:
        _send(_Sender(journal, open_client(uri), uri, home), whole=whole)
    except Exception as error:  # whatever goes wrong there, a training is worth more
        raise NotSentError(redacted(f"{type(error).__name__}: {error}".partition("\n")[0])) from None


def resend(uri: str, home: Home) -> list[tuple[Path, str]]:
    """Send all journals that were left; returns those that MLflow did not take, with why. Stops at the first of them
    while MLflow is away."""
    left = []
    for path in waiting_journals(home.root):
        with left_journal(path) as journal:
            if journal is None:
                continue
            try:
                send(journal, uri, home, whole=True)
            except NotSentError as error:
                left.append((path, str(error)))
                if not uri.startswith("sqlite:") and not is_there(uri):
                    return left
    return left


def send_what_is_left(home: Home) -> str | None:
    """Send what MLflow does not know yet; returns what to say if it still does not."""
    if not waiting_journals(home.root):
        return None
    uri = tracking_uri(home)
    return not_recorded(home, uri) if resend(uri, home) else None  # others are being written


def _send(sender: _Sender, *, whole: bool) -> None:
    from mlflow.exceptions import MlflowException

    try:
        sender.send(whole=whole)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST" or sender.journal.sent.run is None:
            raise
        # Its database was lost, and is a new one: all of it once more.
        sender.journal.mark(entries=0, run=None, parent=None, experiment=None)
        sender.send(whole=whole)


class _Sender:
    def __init__(self, journal: Journal, client: MlflowClient, uri: str, home: Home) -> None:
        self.journal = journal
        self.client = client
        self.uri = uri
        self.home = home

    def send(self, *, whole: bool) -> None:
        entries, sent = self.journal.entries, self.journal.sent
        while sent.entries < len(entries):
            entry = entries[sent.entries]
            count = 1
            if entry["entry"] == BEGIN:
                self._begin(entry)
            elif entry["entry"] == POINTS:
                count = self._points(entries[sent.entries :])
            elif not whole:
                return
            elif entry["entry"] == MADE:
                self._made(entry)
            elif entry["entry"] == END:
                self._end(entry)
            self.journal.mark(entries=sent.entries + count)

    def _begin(self, entry: Mapping[str, Any]) -> None:
        with FileLock(self.home.root / "mlflow.lock"):  # steps may begin at once, each in its own process
            experiment = experiment_of(self.client, self.uri, self.home.root, entry["study"])
            parent = self._parent(experiment, entry)
        found = self.client.search_runs([experiment], f"tags.`{JOURNAL_TAG}` = '{self.journal.id}'", max_results=1)
        if found:
            run = str(found[0].info.run_id)
        else:
            tags = {
                "mlflow.parentRunId": parent,
                JOURNAL_TAG: self.journal.id,
                "dagster.run_id": entry["dagster_run"],
                "lwf.study": entry["study"],
                "lwf.asset": entry["asset"],
                "lwf.partition": entry["partition"] or "",
            }
            name = cell_name(entry["asset"], entry["partition"])
            made = self.client.create_run(experiment, start_time=entry["time"], run_name=name, tags=tags)
            run = str(made.info.run_id)
        self.journal.mark(run=run, parent=parent, experiment=experiment)

    def _parent(self, experiment: str, entry: Mapping[str, Any]) -> str:
        dagster_run = entry["dagster_run"]
        found = self.client.search_runs([experiment], f"tags.`lwf.dagster_run` = '{dagster_run}'", max_results=1)
        if found:
            parent = str(found[0].info.run_id)
            self.client.update_run(parent, status="RUNNING")
            return parent
        name = " ".join(filter(None, [entry["job"], entry["dagster_partition"]]))
        partition = entry["dagster_partition"] or ""
        tags = {"lwf.dagster_run": dagster_run, "dagster.run_id": dagster_run, "lwf.partition": partition}
        made = self.client.create_run(experiment, start_time=entry["time"], run_name=name, tags=tags)
        return str(made.info.run_id)

    def _points(self, entries: list[dict[str, Any]]) -> int:
        """Send the points at the beginning of `entries`, many in one request; returns how many entries they were."""
        from mlflow.entities import Metric

        points, count = list[Metric](), 0
        for entry in entries:
            if entry["entry"] != POINTS or (points and len(points) + len(entry["values"]) > POINTS_AT_ONCE):
                break
            points += [Metric(name, value, entry["time"], entry["step"]) for name, value in entry["values"].items()]
            count += 1
        self.client.log_batch(self._run, metrics=points)
        return count

    def _made(self, entry: Mapping[str, Any]) -> None:
        """What the cell is made from and what came of it; for an LWF checkpoint, the registered model."""
        from mlflow.entities import Metric, Param, RunTag

        spec = ASSET[entry["asset"]]
        cell = Cell(spec.name, Partition.of_key(spec.dimensions, entry["partition"]))
        artifact = self.home.store.by_recipe(cell.asset, cell.partition, entry["recipe"])
        if artifact is None:
            return  # it was removed since
        manifest, folder = artifact.manifest, artifact.path
        tags = {
            "lwf.code_version": manifest.code_version,
            VERSION_TAG: manifest.version,
            RECIPE_TAG: manifest.recipe,
            "lwf.seal": manifest.seal,
            "lwf.from_store": str(entry["reused"]).lower(),
            "lwf.path": str(folder),
            **{f"lwf.input.{e.asset}{_suffix(e.partition)}": e.version for e in manifest.inputs},
        }
        written = [RunTag(name, value) for name, value in tags.items()]
        for start in range(0, len(written), 100):
            self.client.log_batch(self._run, tags=written[start : start + 100])
        parameters = [Param(name, str(value)[:6000]) for name, value in _flat(manifest.settings)]
        figures = {name: value for name, value in manifest.summary.items() if _is_number(value)}
        metrics = [Metric(name, float(value), entry["time"], 0) for name, value in figures.items()]
        self.client.log_batch(self._run, params=parameters[:100], metrics=metrics)
        self.client.log_dict(self._run, {"manifest": manifest.to_json()}, "manifest.json")
        if spec.is_dataset:
            self._dataset(manifest, folder)
        if spec.page is not None:
            self.client.log_artifact(self._run, str(folder / spec.page))
        if cell.asset == "lwf_checkpoint":
            name = registered_name(entry["study"], cell)
            register(self.client, self.uri, self._run, name, artifact, self.home.store, seed=entry["seed"])

    def _dataset(self, manifest: Manifest, folder: Path) -> None:
        """The table, as a data set that this run read or wrote, identified by the artifact's version."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        source = f'{{"uri": "{folder}"}}'
        dataset = Dataset(manifest.name, manifest.version, source_type="local", source=source, profile=None)
        self.client.log_inputs(self._run, [DatasetInput(dataset, [InputTag("mlflow.data.context", manifest.asset)])])

    def _end(self, entry: Mapping[str, Any]) -> None:
        """The parent's status follows its children: no step knows that it is the last one, so each leaves the parent
        as if it were."""
        parent = str(self.journal.sent.parent)
        if entry["error"]:
            self.client.set_tag(self._run, "lwf.error", entry["error"][:5000])
        self.client.set_terminated(self._run, entry["status"], entry["time"])
        failed = entry["status"] != "FINISHED"
        if failed or self.client.get_run(parent).info.status != "FAILED":
            self.client.set_terminated(parent, "FAILED" if failed else "FINISHED", entry["time"])

    @property
    def _run(self) -> str:
        assert self.journal.sent.run is not None
        return self.journal.sent.run


def not_recorded(home: Home, uri: str) -> str | None:
    """What to say at the end of a build of which MLflow does not know all."""
    left = waiting_journals(home.root)
    if not left:
        return None
    runs = "1 run is" if len(left) == 1 else f"{len(left)} runs are"
    return (
        f"{runs} not recorded in MLflow at {shown(uri)} yet. The next build sends what is left, and so does "
        "`lwf track --resend`."
    )


def finite(values: Mapping[str, float]) -> dict[str, float]:
    """Without values that MLflow cannot show."""
    return {name: float(value) for name, value in values.items() if math.isfinite(value)}


def _suffix(partition: str | None) -> str:
    return f".{partition.replace('|', '.')}" if partition else ""


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
