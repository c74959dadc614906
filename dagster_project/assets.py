"""The Dagster assets: a definition for each asset of the study."""

# No `from __future__ import annotations` here: Dagster reads the annotations of the decorated functions as objects.

from typing import Any

import dagster as dg

from dagster_project.partitions import dependency, partitions_definitions
from dagster_project.resources import LwfHome, MlflowTracking
from dagster_project.runs.failures import told_to_dagster
from lwf_assets.graph.cells import Cell, asset_code_version, specs_of, upstream_of
from lwf_assets.graph.table import AssetSpec
from lwf_assets.store.partition import Partition
from lwf_assets.study.study import Study

FORCE_TAG = "lwf/force"
"""Run tag: names of assets, separated by commas, that are rebuilt although the store has them."""

DEVICE_POOL = "device"
"""The pool of steps that compute with a model: the instance says how many may run at once."""

OWNERS = ["team:learning-with-forgetting"]


def build_assets(study: Study, *, pooled: bool = True) -> list[dg.AssetsDefinition]:
    """Every asset of the study; `pooled` says whether those that compute with a model take turns."""
    return [_build_asset(study, spec, pooled=pooled) for spec in specs_of(study)]


def _build_asset(study: Study, spec: AssetSpec, *, pooled: bool) -> dg.AssetsDefinition:
    @dg.asset(
        name=spec.name,
        deps=[dependency(study, upstream, spec.name) for upstream in upstream_of(study, spec)],
        partitions_def=partitions_definitions(study)[spec.dimensions],
        group_name=spec.group,
        kinds=set(spec.kinds),
        owners=OWNERS,
        description=spec.description,
        code_version=asset_code_version(study, spec),
        pool=DEVICE_POOL if pooled and spec.uses_model else None,
    )
    def materialize_cell(
        context: dg.AssetExecutionContext, home: LwfHome, tracking: MlflowTracking
    ) -> dg.MaterializeResult[Any]:
        # Imported when a step runs: loading the definitions must stay light.
        from dagster_project.processes.launch import in_processes
        from dagster_project.ui.metadata import metadata_of
        from lwf_assets.building.materialize import in_this_process, materialize
        from lwf_assets.building.work_order import processes_of
        from lwf_assets.progress import Several

        cell = Cell(spec.name, Partition.of_key(spec.dimensions, context.partition_key if spec.dimensions else None))
        place = home.place()
        forced = spec.name in context.run.tags.get(FORCE_TAG, "").split(",")
        with told_to_dagster(context), tracking.cell_run(context, study, cell) as tracked:
            materialized = materialize(
                study,
                place.store,
                cell,
                force=forced,
                progress=Several(tracked.curves, home.progress(str(cell))),
                provenance=tracked.provenance,
                file_hash=place.file_hashes,
                make=in_processes(context) if processes_of(study, cell) > 1 else in_this_process,
            )
            tracked.log(materialized)
        artifact = materialized.artifact
        context.log.info(
            f"{cell}: {'reused from the store' if materialized.reused else 'built'}, version {artifact.version}"
        )
        return dg.MaterializeResult(
            data_version=dg.DataVersion(artifact.version),
            metadata={
                **tracked.links,
                **metadata_of(artifact, reused=materialized.reused),
            },
        )

    return materialize_cell
