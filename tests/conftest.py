"""One tiny study, built once, and copies of it to change; and one with arms, made once, to be read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("DO_NOT_TRACK", "1")
# The tiny models are too small for more; and sums are the same bit for bit only over as many threads.
os.environ["OMP_NUM_THREADS"] = "1"

from dagster_project.cli.progress_bars import quiet_libraries

quiet_libraries()

from armed import Armed, make_armed
from world import World, copied, new_world


@pytest.fixture(scope="session")
def built_once(tmp_path_factory: pytest.TempPathFactory) -> World:
    world = new_world(tmp_path_factory.mktemp("built"))
    world.build()
    return world


@pytest.fixture
def built(built_once: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A copy of the built tiny study, to change at will."""
    monkeypatch.setenv("LWF_HOME", str(tmp_path / "home"))
    return copied(built_once, tmp_path)


@pytest.fixture(scope="session")
def armed(tmp_path_factory: pytest.TempPathFactory) -> Armed:
    """The tiny study with arms of every kind."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)  # fifty artifacts are many for a slow disk
        return make_armed(tmp_path_factory.mktemp("armed"))


@pytest.fixture(autouse=True)
def _dagster_home_of_each_test() -> Iterator[None]:
    """Opening an instance sets $DAGSTER_HOME; the next test must not inherit it."""
    before = os.environ.get("DAGSTER_HOME")
    yield
    if before is None:
        os.environ.pop("DAGSTER_HOME", None)
    else:
        os.environ["DAGSTER_HOME"] = before
