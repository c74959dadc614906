"""The work of one cell for several processes: what they are told, and what each of them does.

Every process runs the asset's `materialize` with the same inputs. What takes long they share (`engine/processes.py`);
the first writes the artifact, and what the others write goes into a folder of their own that is thrown away.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lwf_assets import assets
from lwf_assets.errors import LwfError
from lwf_assets.graph.cells import Cell
from lwf_assets.graph.table import ASSET
from lwf_assets.graph.work import Work
from lwf_assets.progress import SILENT, Progress
from lwf_assets.store.manifest import MANIFEST, Manifest
from lwf_assets.store.partition import Partition
from lwf_assets.store.store import Artifact
from lwf_assets.study.sections import ComputeSettings
from lwf_assets.study.study import Study

Order = dict[str, Any]
"""JSON."""


def computes_with_model(study: Study, cell: Cell) -> bool:
    """Whether the cell's work is done on a device. A base model that is taught nothing is only imported."""
    return cell.spec.uses_model and (cell.asset != "base_model" or study.model.prior is not None)


def processes_of(study: Study, cell: Cell) -> int:
    """How many processes make the cell: as many as the study says, where it computes with a model."""
    if cell.asset == "self_generated_corpus" and study.generation.engine == "vllm":
        return 1  # which has processes of its own
    return study.compute.processes if computes_with_model(study, cell) else 1


def order_of(cell: Cell, work: Work) -> Order:
    """All that a process needs to take part in the work of a cell."""
    return {
        "study": work.study.model_dump(mode="json"),
        "cell": _named(cell),
        "inputs": [{**_named(needed), "path": str(artifact.path)} for needed, artifact in work.inputs.items()],
        "out": str(work.out),
        "scratch": str(work.scratch),
    }


def carry_out(order: Order, progress: Progress) -> dict[str, Any]:
    """Take part in the work, as a process that has joined the others; returns the cell's summary."""
    from lwf_assets.engine import processes

    together = processes.here()
    scratch, out = Path(order["scratch"]), Path(order["out"])
    if not together.is_first:
        out = scratch / f"of-process-{together.rank}"
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
    inputs = {}
    for entry in order["inputs"]:
        path = Path(entry["path"])
        inputs[_cell(entry)] = Artifact(path, Manifest.read(path / MANIFEST))
    cell, study = _cell(order["cell"]), Study.model_validate(order["study"])
    work = Work(study, cell.partition, inputs, out, scratch, progress if together.is_first else SILENT)
    try:
        return assets.materialize(cell.asset, work)
    finally:
        if not together.is_first:
            shutil.rmtree(out, ignore_errors=True)


def _named(cell: Cell) -> dict[str, str | None]:
    return {"asset": cell.asset, "partition": cell.partition.key}


def _cell(named: Mapping[str, Any]) -> Cell:
    return Cell(named["asset"], Partition.of_key(ASSET[named["asset"]].dimensions, named["partition"]))


def refuse_too_many(compute: ComputeSettings) -> None:
    """Stop before any work if this machine cannot give each process a device.

    Raises:
        LwfError: the key at fault, and what would do.
    """
    if compute.processes == 1:
        return
    import torch

    from lwf_assets.engine.precision import best_device

    device = best_device().type
    if device not in ("cuda", "cpu"):
        raise LwfError(
            f"compute.processes: {compute.processes} processes cannot share the {device} device of this machine; take 1"
        )
    there, what = (torch.cuda.device_count(), "CUDA devices") if device == "cuda" else (cores(), "CPU cores")
    if compute.processes > there:
        raise LwfError(
            f"compute.processes: {compute.processes} is more than the {there} {what} of this machine; "
            f"take at most {there}"
        )
    if compute.strategy == "fsdp" and device != "cuda":
        raise LwfError(
            "compute.strategy: fsdp needs a CUDA device for each process, and this machine has none; take ddp"
        )


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
