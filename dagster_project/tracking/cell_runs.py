"""MLflow: one parent run per Dagster run, one nested run per asset partition, curves while they grow.

Everything goes through `MlflowClient` and run ids: MLflow's global "active run" would be shared by whatever else runs
in the process. The parent is found by its tag, so the steps of one Dagster run agree on it although each has its own
process.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
from filelock import FileLock

from dagster_project.tracking.address import web_address
from dagster_project.tracking.client import experiment_of, open_client
from dagster_project.tracking.registry import RECIPE_TAG, VERSION_TAG
from lwf_assets.building.materialize import Materialized
from lwf_assets.graph.cells import Cell
from lwf_assets.progress import Silent
from lwf_assets.study.study import Study

if TYPE_CHECKING:
    from mlflow import MlflowClient


class Curves(Silent):
    """Writes the points of a step's curves into its MLflow run as they come."""

    def __init__(self, client: MlflowClient, run_id: str) -> None:
        self._client = client
        self._run_id = run_id

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """One batch per point: a request each would slow a fast training down."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        points = [Metric(name, value, now, step) for name, value in values.items() if math.isfinite(value)]
        self._client.log_batch(self._run_id, metrics=points)


class TrackedCell:
    """The nested MLflow run of one cell."""

    def __init__(
        self, client: MlflowClient, uri: str, experiment_id: str, run_id: str, study: Study, cell: Cell
    ) -> None:
        self._client = client
        self._uri = uri
        self._study = study
        self._cell = cell
        self.run_id = run_id
        self.curves = Curves(client, run_id)
        self._page = f"{web_address(uri)}/#/experiments/{experiment_id}/runs/{run_id}"

    @property
    def links(self) -> dict[str, dg.MetadataValue[Any]]:
        """The run's page in MLflow; of an asset with an HTML page, that page among its artifacts."""
        pages = {"mlflow_run": self._page}
        if self._cell.spec.page is not None:
            pages["report"] = f"{self._page}/artifacts/{self._cell.spec.page}"
        return {name: dg.MetadataValue.url(page) for name, page in pages.items()}

    def log(self, materialized: Materialized) -> None:
        """What the cell is made from and what came of it; for an LWF checkpoint, the registered model."""
        from mlflow.entities import Param

        manifest = materialized.artifact.manifest
        tags = {
            "lwf.code_version": manifest.code_version,
            VERSION_TAG: manifest.version,
            RECIPE_TAG: manifest.recipe,
            "lwf.seal": manifest.seal,
            "lwf.from_store": str(materialized.reused).lower(),
            "lwf.path": str(materialized.artifact.path),
            **{f"lwf.input.{e.asset}{_suffix(e.partition)}": e.version for e in manifest.inputs},
        }
        for name, value in tags.items():
            self._client.set_tag(self.run_id, name, value)
        parameters = [Param(name, str(value)[:6000]) for name, value in _flat(manifest.settings)]
        figures = {name: value for name, value in manifest.summary.items() if _is_number(value)}
        self._client.log_batch(self.run_id, params=parameters[:100])
        self.curves.metrics(0, figures)
        self._client.log_dict(self.run_id, {"manifest": manifest.to_json()}, "manifest.json")
        self._log_data(materialized)
        if self._cell.spec.page is not None:
            self._client.log_artifact(self.run_id, str(materialized.artifact.path / self._cell.spec.page))
        if self._cell.asset == "lwf_checkpoint":
            from dagster_project.tracking.registry import register

            register(self._client, self._uri, self.run_id, self._study, self._cell, materialized.artifact)

    def _log_data(self, materialized: Materialized) -> None:
        """The table, as a data set that this run read or wrote, identified by the artifact's version."""
        if not self._cell.spec.is_dataset:
            return
        from mlflow.entities import Dataset, DatasetInput, InputTag

        manifest = materialized.artifact.manifest
        dataset = Dataset(
            name=str(self._cell),
            digest=manifest.version,
            source_type="local",
            source=f'{{"uri": "{materialized.artifact.path}"}}',
            profile=None,
        )
        tags = [InputTag("mlflow.data.context", self._cell.asset)]
        self._client.log_inputs(self.run_id, [DatasetInput(dataset, tags)])


@contextmanager
def tracked_cell(
    uri: str, home: Path, context: dg.AssetExecutionContext, study: Study, cell: Cell
) -> Iterator[TrackedCell]:
    """The nested run of `cell`, ended with the block; the parent's status follows its children.

    The steps of a Dagster run may start at once, each in its own process: what only one of them may do (set up a fresh
    database, make the experiment and the parent run) is done under a file lock in `home`.
    """
    home.mkdir(parents=True, exist_ok=True)
    with FileLock(home / "mlflow.lock"):
        client = open_client(uri)
        experiment_id = experiment_of(client, uri, home, study.name)
        parent = _parent_run(client, experiment_id, context)
    run = client.create_run(
        experiment_id,
        run_name=str(cell),
        tags={
            "mlflow.parentRunId": parent,
            "dagster.run_id": context.run_id,
            "lwf.study": study.name,
            "lwf.asset": cell.asset,
            "lwf.partition": cell.partition.key or "",
        },
    )
    try:
        yield TrackedCell(client, uri, experiment_id, run.info.run_id, study, cell)
    except BaseException as error:
        client.set_tag(run.info.run_id, "lwf.error", str(error)[:5000])
        client.set_terminated(run.info.run_id, "FAILED")
        client.set_terminated(parent, "FAILED")
        raise
    client.set_terminated(run.info.run_id, "FINISHED")
    # No step knows that it is the last one, so each leaves the parent as if it were.
    if client.get_run(parent).info.status != "FAILED":
        client.set_terminated(parent, "FINISHED")


def _parent_run(client: MlflowClient, experiment_id: str, context: dg.AssetExecutionContext) -> str:
    key = context.partition_key if context.has_partition_key else None
    found = client.search_runs([experiment_id], f"tags.`lwf.dagster_run` = '{context.run_id}'", max_results=1)
    if found:
        parent = str(found[0].info.run_id)
        client.update_run(parent, status="RUNNING")
        return parent
    name = " ".join(filter(None, [context.job_name, key]))
    tags = {"lwf.dagster_run": context.run_id, "dagster.run_id": context.run_id, "lwf.partition": key or ""}
    return str(client.create_run(experiment_id, run_name=name, tags=tags).info.run_id)


def _suffix(partition: str | None) -> str:
    return f".{partition.replace('|', '.')}" if partition else ""


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
