"""The reports of a study as data, rebuilt from what is in the store; and what they were made with."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from lwf_assets.comparison.cell_report import cell_report
from lwf_assets.comparison.records import CellReport
from lwf_assets.errors import LwfError
from lwf_assets.graph.cells import Cell, cells, inputs_of
from lwf_assets.store.layout import TABLES
from lwf_assets.store.store import Store
from lwf_assets.study.study import Study


def built_reports(study: Study, store: Store, wanted: Collection[Cell]) -> dict[str, CellReport]:
    """The report of each of `wanted`, cells of eval_report, by its partition's key.

    Raises:
        LwfError: one is not built, or something that it is made from has changed since.
    """
    return {str(cell.partition): _report(study, store, cell) for cell in wanted}


def built_with(study: Study, store: Store) -> dict[str, Any]:
    """What the study's current artifacts were made with: commits, devices, library versions, seconds of work."""
    found = [artifact for cell in cells(study) if (artifact := store.current(cell.asset, cell.partition))]
    provenances = [artifact.manifest.provenance for artifact in found]
    return {
        "artifacts": len(provenances),
        "seconds": sum(entry["wall_seconds"] for entry in provenances),
        "began": min(entry["began"] for entry in provenances),
        "commits": sorted({str(entry["git_commit"])[:7] for entry in provenances}),
        "devices": sorted({str(entry["device"]) for entry in provenances}),
        "libraries": provenances[-1]["libraries"],
        "bytes": sum(file.size for artifact in found for file in artifact.manifest.files),
    }


def _report(study: Study, store: Store, cell: Cell) -> CellReport:
    made = store.built(cell.asset, cell.partition)
    versions = {(entry.asset, entry.partition): entry.version for entry in made.manifest.inputs}
    inputs = {}
    for needed in inputs_of(study, cell):
        artifact = store.current(needed.asset, needed.partition)
        if artifact is None or versions.get((needed.asset, needed.partition.key)) != artifact.version:
            raise LwfError(f"{cell} was made from another version of {needed} than the current one; run `lwf build`")
        store.verify(artifact, TABLES)
        inputs[needed] = artifact
    return cell_report(study, cell.partition, inputs)
