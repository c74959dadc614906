"""What Dagster and MLflow have recorded of the artifacts of a chain, compared with their manifests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from dagster_project.tracking.address import is_there, tracking_uri
from dagster_project.tracking.registry import RECIPE_TAG, VERSION_TAG
from lwf_assets.lineage.audit import OutsideRecord
from lwf_assets.lineage.chain import Chain, Link
from lwf_assets.store.home import Home

if TYPE_CHECKING:
    import dagster as dg
    from mlflow import MlflowClient

DATA_VERSION = "dagster/data_version"


def outside_records(home: Home, chain: Chain) -> list[OutsideRecord]:
    """One record of each system that is there for each artifact that names a run. A system whose database no longer
    exists, or whose server does not answer, says nothing."""
    return [*_of_dagster(home, chain), *_of_mlflow(home, chain)]


def _of_dagster(home: Home, chain: Chain) -> Iterator[OutsideRecord]:
    from dagster_project.runs.instance import existing_instance

    instance = existing_instance(home)
    if instance is None:
        return
    with instance:
        for link in chain.links:
            run = link.manifest.provenance.get("dagster_run")
            if run is not None:
                yield _dagster_record(instance, link, run)


def _dagster_record(instance: dg.DagsterInstance, link: Link, run: str) -> OutsideRecord:
    import dagster as dg

    known = instance.get_run_by_id(run)
    if known is None:
        return OutsideRecord("Dagster", link.name, link.manifest.version, run, missing=True)
    events = instance.get_records_for_run(run, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION).records
    made = [event.asset_materialization for event in events]
    cell = [link.manifest.asset], link.manifest.partition
    fitting = [m for m in made if m is not None and (m.asset_key.path, m.partition) == cell]
    if not fitting:
        return OutsideRecord("Dagster", link.name, link.manifest.version, run, ("the run did not materialize it",))
    tags, metadata = fitting[-1].tags or {}, fitting[-1].metadata
    recorded = {"version": tags.get(DATA_VERSION), "seal": getattr(metadata.get("seal"), "value", None)}
    return OutsideRecord("Dagster", link.name, link.manifest.version, run, _differences(link, recorded))


def _of_mlflow(home: Home, chain: Chain) -> Iterator[OutsideRecord]:
    uri = tracking_uri(home)
    if not is_there(uri):
        return
    from dagster_project.tracking.client import open_client

    client = open_client(uri)
    for link in chain.links:
        run = link.manifest.provenance.get("mlflow_run")
        if run is not None:
            yield _mlflow_record(client, link, run)


def _mlflow_record(client: MlflowClient, link: Link, run: str) -> OutsideRecord:
    from mlflow.exceptions import MlflowException

    try:
        tags = client.get_run(run).data.tags
    except MlflowException:
        return OutsideRecord("MLflow", link.name, link.manifest.version, run, missing=True)
    recorded = {"version": tags.get(VERSION_TAG), "recipe": tags.get(RECIPE_TAG), "seal": tags.get("lwf.seal")}
    return OutsideRecord("MLflow", link.name, link.manifest.version, run, _differences(link, recorded))


def _differences(link: Link, recorded: dict[str, Any]) -> tuple[str, ...]:
    """What another system says that the manifest does not; what it does not say is no difference."""
    return tuple(
        f"{name} {value} there, {getattr(link.manifest, name)} here"
        for name, value in recorded.items()
        if value is not None and value != getattr(link.manifest, name)
    )
