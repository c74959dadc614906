"""A study in a folder with the home that it is built in."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tiny import tiny_study_values, write_study

from dagster_project.builds.builder import build
from lwf_assets.graph.cells import Cell
from lwf_assets.planning.plan import Plan, make_plan
from lwf_assets.store.home import Home
from lwf_assets.study.file import load_study
from lwf_assets.study.study import Study


@dataclass
class World:
    """A study in a folder, and the home that it is built in."""

    folder: Path
    home: Home
    values: dict[str, Any]

    @property
    def file(self) -> Path:
        """The study file, written from `values` as they are now."""
        return write_study(self.folder, self.values)

    @property
    def study(self) -> Study:
        """The study, loaded from its file."""
        return load_study(self.file)

    def plan(self) -> Plan:
        """What is stale."""
        return make_plan(self.study, self.home.store, self.home.file_hashes)

    def stale(self) -> set[str]:
        """What is stale, as text."""
        return {str(step.cell) for step in self.plan().stale}

    def build(self, **options: Any) -> list[Cell]:
        """Make it fresh."""
        return build(self.study, self.home, **options)

    def artifact(self, asset: str) -> Path:
        """The folder of the first current artifact of an asset."""
        cell = next(step.cell for step in self.plan().steps if step.cell.asset == asset)
        artifact = self.home.store.current(cell.asset, cell.partition)
        assert artifact is not None
        return artifact.path


def copied(world: World, folder: Path) -> World:
    """A copy of a world in another folder, to change at will."""
    shutil.copytree(world.folder, folder / "study")
    # MLflow's database has the address of its files: a copy of them would be read by nobody.
    shutil.copytree(world.home.root, folder / "home", ignore=shutil.ignore_patterns("mlflow-artifacts"))
    return World(folder / "study", Home(folder / "home"), tiny_study_values(folder / "study"))


def new_world(folder: Path) -> World:
    """The tiny study, not built."""
    return World(folder / "study", Home(folder / "home"), tiny_study_values(folder / "study"))
