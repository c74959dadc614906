"""A chain as OpenLineage events, for catalogs that read them: one finished run per artifact."""

from __future__ import annotations

import json
import uuid
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from lwf_assets.lineage.chain import Chain, Link
from lwf_assets.store.manifest import InputVersion
from lwf_assets.store.store import Store

PRODUCER = "https://github.com/OpenLineage/OpenLineage/blob/main/spec/OpenLineage.md#lwf-assets"


def write_events(path: Path, store: Store, chain: Chain) -> None:
    """Write the events of a chain, inputs first, one JSON object a line: what OpenLineage's file transport writes."""
    from openlineage.client.serde import Serde

    lines = [Serde.to_json(_event(store, link)) for link in chain.links]
    path.write_text("".join(f"{json.dumps(json.loads(line))}\n" for line in lines), encoding="utf-8")


def _event(store: Store, link: Link) -> Any:
    """That the artifact was made: its run (MLflow's, where there is one), its inputs and itself, by version."""
    from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState
    from openlineage.client.facet_v2 import (
        documentation_job,
        execution_parameters_run,
        job_type_job,
        processing_engine_run,
    )

    manifest, provenance = link.manifest, link.manifest.provenance
    began = datetime.fromisoformat(provenance["began"])
    parameters = [
        execution_parameters_run.ExecutionParameter(key=name, name=name, value=json.dumps(value))
        for name, value in manifest.settings.items()
    ]
    libraries = provenance.get("libraries", {})
    run = Run(
        runId=str(
            uuid.UUID(provenance["mlflow_run"]) if provenance.get("mlflow_run") else uuid.UUID(manifest.seal[:32])
        ),
        facets={
            "executionParameters": execution_parameters_run.ExecutionParametersRunFacet(parameters=parameters),
            "processing_engine": processing_engine_run.ProcessingEngineRunFacet(
                name="torch", version=str(libraries.get("torch", "unknown"))
            ),
        },
    )
    job = Job(
        namespace=provenance["study"],
        name=link.name,
        facets={
            "jobType": job_type_job.JobTypeJobFacet(processingType="BATCH", integration="LWF", jobType="ASSET"),
            "documentation": documentation_job.DocumentationJobFacet(
                description=(
                    f"{manifest.asset}, code version {manifest.code_version}, commit {provenance.get('git_commit')}"
                )
            ),
        },
    )
    read = [_dataset(store, entry) for entry in manifest.inputs]
    place, version = _dataset(store, InputVersion(manifest.asset, manifest.partition, manifest.version))
    return RunEvent(
        eventType=RunState.COMPLETE,
        eventTime=(began + timedelta(seconds=provenance["wall_seconds"])).isoformat(),
        run=run,
        job=job,
        producer=PRODUCER,
        inputs=[InputDataset("file", name, facets=facets) for name, facets in read],
        outputs=[OutputDataset("file", place, facets=version)],
    )


def _dataset(store: Store, entry: InputVersion) -> tuple[str, dict[str, Any]]:
    """A cell as a data set, named by its folder, and its version."""
    from openlineage.client.facet_v2 import dataset_version_dataset

    facet = dataset_version_dataset.DatasetVersionDatasetFacet(datasetVersion=entry.version)
    return str(store.artifact_folder(entry).parent), {"version": facet}
