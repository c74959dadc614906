"""The real planner and the real decision what to launch, on a store whose manifests appear as cells end."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from dagster_project.automation.build_driver import CellRun, RunState, decide
from lwf_assets.building.checks import checks_of
from lwf_assets.disk.hashes import canonical_hash, hash_file
from lwf_assets.graph.cells import Cell, cells
from lwf_assets.planning.plan import make_plan
from lwf_assets.store.manifest import VERSION_LENGTH, Manifest
from lwf_assets.store.partition import Partition
from lwf_assets.store.store import Artifact, Store
from lwf_assets.study.study import Study


class ManifestsAlone(Store):
    """A store that holds manifests in memory and no file. Every check has passed.

    Args:
        root: a folder that stays empty.
        earlier: manifests of other work, by which the forecast tells how long cells take.
    """

    def __init__(self, root: Path, earlier: Sequence[Manifest] = ()) -> None:
        super().__init__(root)
        self._earlier = earlier
        self._current: dict[tuple[str, str | None], Artifact] = {}

    def put(self, cell: Cell, recipe: str) -> None:
        """A cell has ended; equal recipes give equal contents."""
        version = canonical_hash(recipe)[:VERSION_LENGTH]
        manifest = Manifest(cell.asset, cell.partition.key, version, recipe, cell.spec.code_version, {}, (), ())
        self._current[cell.asset, cell.partition.key] = Artifact(self.artifact_folder(manifest), manifest)

    def current(self, asset: str, partition: Partition) -> Artifact | None:
        """What the cell's last run made."""
        return self._current.get((asset, partition.key))

    def by_recipe(self, asset: str, partition: Partition, recipe: str) -> Artifact | None:
        """The same, if it was made by that recipe."""
        found = self.current(asset, partition)
        return found if found is not None and found.manifest.recipe == recipe else None

    def verdicts(self, asset: str, partition: Partition, subject: str) -> dict[str, dict[str, Any]]:
        """Every check has passed."""
        return {check.name: {"passed": True} for check in checks_of(asset)}

    def manifests(self, asset: str = "*") -> Iterator[Manifest]:
        """Those of other work."""
        return (manifest for manifest in self._earlier if asset in ("*", manifest.asset))


class RealPlanner:
    """`make_plan` and `decide`, asked as the sensor `run_builds` asks them. `seconds` has how long each answer took."""

    def __init__(self, study: Study, root: Path) -> None:
        self._study = study
        self._store = ManifestsAlone(root)
        self._cells = {str(cell): cell for cell in cells(study)}
        self._runs: dict[str, CellRun] = {}
        self._file_hash = cache(hash_file)  # as a home remembers them
        self.seconds: list[float] = []

    def __call__(self, ended: Sequence[str]) -> list[str]:
        """What to launch now that the runs of these cells have ended."""
        for name in ended:
            recipe = self._runs[name].recipe
            self._runs[name] = CellRun(name, recipe, RunState.SUCCEEDED)
            self._store.put(self._cells[name], recipe)
        began = time.perf_counter()
        decision = decide(self._study, make_plan(self._study, self._store, self._file_hash), self._runs.values())
        self.seconds.append(time.perf_counter() - began)
        for step in decision.launch:
            assert step.recipe is not None
            self._runs[str(step.cell)] = CellRun(str(step.cell), step.recipe, RunState.ACTIVE)
        return [str(step.cell) for step in decision.launch]
