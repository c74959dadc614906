"""One tiny study, built once, and copies of it to change; and one with arms, made once, to be read."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("DO_NOT_TRACK", "1")
# The tiny models are too small for more; and sums are the same bit for bit only over as many threads.
os.environ["OMP_NUM_THREADS"] = "1"

import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read when Triton is first imported, which torch does not do by itself

from dagster_project.cli.progress_bars import quiet_libraries

quiet_libraries()

from hypothesis import settings

# Time is measured in benchmarks, not in tests: on a busy machine any example may take long.
settings.register_profile("without a deadline", deadline=None)
settings.load_profile("without a deadline")

from armed import Armed, make_armed, open_armed
from once import made_once
from world import World, copied, new_world


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test process begins with its part of the slow files, the live daemon's before all: what takes minutes and
    begins last holds up the end. (The processes are given as many tests each, in the order of the list.)"""
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    by_file: dict[Path, list[pytest.Item]] = {}
    quick: list[pytest.Item] = []
    for item in items:
        (by_file.setdefault(item.path, []) if item.get_closest_marker("slow") else quick).append(item)
    files = sorted(by_file, key=lambda path: path.name != "test_live_daemon.py")
    ordered: list[pytest.Item] = []
    for process in range(processes):
        slow = [item for path in files[process::processes] for item in by_file[path]]
        room = (len(items) - len(ordered)) // (processes - process) - len(slow)
        ordered += slow + quick[: max(0, room)]
        del quick[: max(0, room)]
    items[:] = ordered + quick


def pytest_collection_finish(session: pytest.Session) -> None:
    """Takes the libraries' own objects, a million of them, out of what the garbage collector looks through. A build
    collects garbage after every cell, which took a third of the time of the tests that build whole studies."""
    if not any(item.get_closest_marker("slow") for item in session.items):
        return
    import datasets  # noqa: F401
    import matplotlib.pyplot  # noqa: F401
    import mlflow  # noqa: F401
    import scipy.stats  # noqa: F401
    import statsmodels.stats.multitest  # noqa: F401
    import transformers.trainer  # noqa: F401

    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def built_once(tmp_path_factory: pytest.TempPathFactory) -> World:
    """The tiny study, built. Only to be copied."""
    return new_world(made_once(tmp_path_factory, "built", lambda folder: new_world(folder).build()))


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
        return open_armed(made_once(tmp_path_factory, "armed", make_armed))


@pytest.fixture(autouse=True)
def _dagster_home_of_each_test() -> Iterator[None]:
    """Opening an instance sets $DAGSTER_HOME; the next test must not inherit it."""
    before = os.environ.get("DAGSTER_HOME")
    yield
    if before is None:
        os.environ.pop("DAGSTER_HOME", None)
    else:
        os.environ["DAGSTER_HOME"] = before
