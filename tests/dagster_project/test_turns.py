"""Builds of two studies in one home take turns; builds of one study do not wait."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny import tiny_study_values, write_study

from dagster_project.builds import turns
from dagster_project.builds.turns import turn_of
from lwf_assets.store.home import Home
from lwf_assets.study.file import load_study
from lwf_assets.study.study import Study

HOLD = """
import sys, time
from pathlib import Path
from dagster_project.builds.turns import turn_of
from lwf_assets.store.home import Home
from lwf_assets.study.file import load_study
with turn_of(load_study(Path(sys.argv[1])), Home(Path(sys.argv[2]))):
    print("mine", flush=True)
    time.sleep(600)
"""


def _study(folder: Path, **changes: object) -> Path:
    return write_study(folder, {**tiny_study_values(folder), **changes})


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


@pytest.fixture
def held(tmp_path: Path, home: Home) -> Iterator[subprocess.Popen[str]]:
    """A process whose turn it is."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(_study(tmp_path / "first")), str(home.root)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "mine\n"
    yield process
    process.kill()
    process.wait()


def _in_thread(study: Study, home: Home) -> tuple[threading.Thread, threading.Event]:
    begun = threading.Event()

    def take() -> None:
        with turn_of(study, home):
            begun.set()

    thread = threading.Thread(target=take)
    thread.start()
    return thread, begun


def test_another_study_waits_and_says_so_until_the_first_process_has_died(
    tmp_path: Path,
    home: Home,
    held: subprocess.Popen[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(turns, "PAUSE", 0.05)
    with caplog.at_level(logging.WARNING, logger="lwf.build"):
        thread, begun = _in_thread(load_study(_study(tmp_path / "second", name="other")), home)
        assert not begun.wait(0.5)
        held.kill()
        assert begun.wait(10)
        thread.join()
    assert [record.message for record in caplog.records] == [
        f"The study tiny is being built in {home.root}. This build begins when that one has ended."
    ]
    assert list((home.root / "building").glob("*/*.lock")) == []


def test_the_same_study_with_other_settings_waits_too(tmp_path: Path, home: Home) -> None:
    first, second = (load_study(_study(tmp_path / str(seed), seeds=[seed])) for seed in (0, 1))
    with turn_of(first, home):
        thread, begun = _in_thread(second, home)
        assert not begun.wait(0.5)
    assert begun.wait(10)
    thread.join()


def test_builds_of_one_study_do_not_wait(tmp_path: Path, home: Home, held: subprocess.Popen[str]) -> None:
    study = load_study(_study(tmp_path / "first"))
    began = time.monotonic()
    with turn_of(study, home), turn_of(study, home):
        assert time.monotonic() - began < 30
        assert held.poll() is None
