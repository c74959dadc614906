"""One tiny study, built once, and copies of it to change."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("DO_NOT_TRACK", "1")

from dagster_project.terminal import quiet_libraries

quiet_libraries()

from tiny import tiny_study_values, write_study

from dagster_project.builder import build
from dagster_project.planner import Plan, make_plan
from lwf_assets.graph import Cell
from lwf_assets.home import Home
from lwf_assets.study import Study
from lwf_assets.study_file import load_study


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


def new_world(folder: Path) -> World:
    """The tiny study, not built."""
    return World(folder / "study", Home(folder / "home"), tiny_study_values(folder / "study"))


@pytest.fixture(scope="session")
def _built(tmp_path_factory: pytest.TempPathFactory) -> World:
    world = new_world(tmp_path_factory.mktemp("built"))
    world.build()
    return world


@pytest.fixture
def built(_built: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A copy of the built tiny study, to change at will."""
    shutil.copytree(_built.folder, tmp_path / "study")
    shutil.copytree(_built.home.root, tmp_path / "home")
    monkeypatch.setenv("LWF_HOME", str(tmp_path / "home"))
    return World(tmp_path / "study", Home(tmp_path / "home"), tiny_study_values(tmp_path / "study"))


@pytest.fixture(autouse=True)
def _dagster_home_of_each_test() -> Iterator[None]:
    """Opening an instance sets $DAGSTER_HOME; the next test must not inherit it."""
    before = os.environ.get("DAGSTER_HOME")
    yield
    if before is None:
        os.environ.pop("DAGSTER_HOME", None)
    else:
        os.environ["DAGSTER_HOME"] = before
