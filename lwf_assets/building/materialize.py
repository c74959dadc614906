"""Makes one cell: finds its inputs, asks the store whether it is there already, and if not does the work."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from lwf_assets import assets
from lwf_assets.building.refusals import refusals_told
from lwf_assets.building.work_order import processes_of
from lwf_assets.cost.cell_cost import cost_of
from lwf_assets.cost.disk_space import disk_space_of, refuse_what_has_no_room
from lwf_assets.cost.free_memory import refuse_what_cannot_fit
from lwf_assets.disk.hashes import hash_file
from lwf_assets.disk.room import size_as_text
from lwf_assets.errors import LwfError
from lwf_assets.graph.cells import Cell, inputs_of, partitions_of, recipe_of, settings_of
from lwf_assets.graph.settings import HashFile
from lwf_assets.graph.work import Work
from lwf_assets.progress import SILENT, Progress
from lwf_assets.store.layout import TABLES
from lwf_assets.store.manifest import InputVersion
from lwf_assets.store.store import Artifact, Store
from lwf_assets.store.verification import DamagedArtifactError
from lwf_assets.study.study import Study

LIBRARIES = (
    "torch",
    "transformers",
    "peft",
    "datasets",
    "accelerate",
    "duckdb",
    "pyarrow",
    "numpy",
    "reasoning-gym",
    "gguf",
)


@dataclass(frozen=True)
class Materialized:
    """A cell's artifact, and whether it was in the store already."""

    artifact: Artifact
    reused: bool


Make = Callable[[Cell, Work], dict[str, Any]]
"""Writes the files of a cell into `Work.out`; returns its summary."""


def in_this_process(cell: Cell, work: Work) -> dict[str, Any]:
    """Do the work of a cell here."""
    return assets.materialize(cell.asset, work)


def materialize(
    study: Study,
    store: Store,
    cell: Cell,
    *,
    force: bool = False,
    progress: Progress = SILENT,
    provenance: Mapping[str, Any] | None = None,
    file_hash: HashFile = hash_file,
    instead: Mapping[Cell, Artifact] | None = None,
    make: Make = in_this_process,
) -> Materialized:
    """Make `cell` and make it current. An artifact of the same recipe that is in the store is taken as it is, unless it
    was damaged: then it is made again.

    Args:
        study: what is wanted.
        store: where inputs are read and the artifact is written.
        cell: one partition of one asset; its inputs must be current already.
        force: do the work even if the store has the artifact.
        progress: notified of how far the work is.
        provenance: kept in the manifest next to seeds, library versions, git commit and wall time.
        file_hash: gives a source file's sha256; pass one that remembers to save time.
        instead: artifacts to use instead of the current ones of some inputs. The result then does not become current.
        make: does the work itself; pass one that does it elsewhere.

    Raises:
        LwfError: no such cell in the study, an input that is not built, work that cannot fit into memory, or whatever
            bad input the work meets.
        DamagedArtifactError: the files of an input are not those that it was made with.
    """
    check_cell(study, cell)
    inputs = {}
    for needed in inputs_of(study, cell):
        artifact = (instead or {}).get(needed) or store.current(needed.asset, needed.partition)
        if artifact is None:
            raise LwfError(f"{cell} is made from {needed}, which is not built; `lwf build` builds both in order")
        inputs[needed] = artifact
    settings = settings_of(study, cell, file_hash)
    versions = tuple(_input_version(artifact) for artifact in inputs.values())
    recipe = recipe_of(cell, settings, versions)
    with store.lock(cell.asset, cell.partition, recipe):
        found = None if force else _whole(store, store.by_recipe(cell.asset, cell.partition, recipe))
        artifact = found
        if artifact is None:
            with store.mirror.at_work(cell.asset, cell.partition.key, recipe, [a.path for a in inputs.values()]):
                artifact = _make(
                    study,
                    store,
                    cell,
                    recipe,
                    settings,
                    versions,
                    inputs,
                    progress,
                    provenance or {},
                    make,
                    instead=force,
                )
        if not instead:
            store.set_current(artifact, cell.partition)
    return Materialized(artifact, reused=found is not None)


def _whole(store: Store, artifact: Artifact | None) -> Artifact | None:
    """The artifact, if its files are those of its manifest."""
    if artifact is None:
        return None
    try:
        store.verify(artifact)
    except DamagedArtifactError:
        return None
    return artifact


def _input_version(artifact: Artifact) -> InputVersion:
    manifest = artifact.manifest
    return InputVersion(manifest.asset, manifest.partition, manifest.version, manifest.seal)


def check_cell(study: Study, cell: Cell) -> None:
    """Refuse a partition that the study does not have.

    Raises:
        LwfError: names the partition and those there are.
    """
    there = partitions_of(study, cell.spec)
    if cell.partition not in there:
        keys = ", ".join(sorted(partition.key or "-" for partition in there))
        raise LwfError(f"{cell.asset} has no partition {cell.partition.key!r} in the study {study.name}; it has {keys}")


def _make(
    study: Study,
    store: Store,
    cell: Cell,
    recipe: str,
    settings: Mapping[str, Any],
    versions: tuple[InputVersion, ...],
    inputs: Mapping[Cell, Artifact],
    progress: Progress,
    provenance: Mapping[str, Any],
    make: Make,
    *,
    instead: bool,
) -> Artifact:
    began, clock = time.time(), time.monotonic()
    for artifact in inputs.values():
        store.verify(artifact, _read_by(store, cell, artifact))

    def known(needed: Cell) -> Artifact | None:
        return store.current(needed.asset, needed.partition)

    cost, space = cost_of(study, cell, known), disk_space_of(study, cell, known)
    refuse_what_cannot_fit(cell, cost, processes=processes_of(study, cell))
    refuse_what_has_no_room(cell, space, store.root)

    def told(said: str) -> str:
        return f"{cell}: {said}. It writes at least {size_as_text(space.needed)}"

    with refusals_told(store.root, told), store.draft(cell.asset, cell.partition, recipe, instead=instead) as draft:
        resumed = any(draft.scratch.iterdir())
        work = Work(study, cell.partition, inputs, draft.path, draft.scratch, progress)
        summary = make(cell, work)
        return draft.commit(
            code_version=cell.spec.code_version,
            settings=settings,
            inputs=versions,
            summary=summary,
            provenance={
                "study": study.name,
                "study_settings": store.keep_study(study.model_dump(mode="json")),
                "seeds": list(study.seeds),
                "libraries": _library_versions(),
                "git_commit": _git_commit(),
                "began": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(began)),
                "wall_seconds": round(time.monotonic() - clock, 3),
                # What the next plan reckons with; a resumed run's time is only that of its last part.
                "work": cost.work,
                "resumed": resumed,
                "device": _device(),
                **provenance,
            },
        )


def _read_by(store: Store, cell: Cell, artifact: Artifact) -> str | tuple[str, ...]:
    """Endings of the files that the cell reads. What computes with no model reads tables alone: weights that only a
    shared store has stay there."""
    return "" if cell.spec.uses_model or store.is_here(artifact.manifest) else TABLES


@cache
def _library_versions() -> dict[str, str]:
    return {name: metadata.version(name) for name in LIBRARIES}


def _device() -> str:
    """What a model computes on here, if one does."""
    torch = sys.modules.get("torch")
    return str(torch.cuda.get_device_name()) if torch is not None and torch.cuda.is_available() else "cpu"


@cache
def _git_commit() -> str | None:
    """Commit of the checkout that this code runs from, `-dirty` when it was changed; None outside one."""
    folder = Path(__file__).resolve().parents[2]

    def git(*words: str) -> str:
        # A service may run from a checkout that belongs to another user; git would refuse to answer.
        command = ["git", "-c", f"safe.directory={folder}", *words]
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != folder:
            return None  # installed into an environment that lies in somebody's own repository
        return git("rev-parse", "HEAD") + ("-dirty" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return None
