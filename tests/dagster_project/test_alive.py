"""A run whose process is gone does not count as started for ever, and keeps no place that others wait for."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import pytest
from places import SUPPORT
from world import World

from dagster_project.assets import DEVICE_POOL
from dagster_project.runs import alive
from dagster_project.runs.alive import begin_to_live, fail_dead_runs, let_go, tag_with_home
from dagster_project.runs.instance import open_instance
from lwf_assets.store.home import Home


@contextmanager
def running(home: Home, end: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A run at work in another process; its id and the process."""
    command = [sys.executable, str(SUPPORT / "run_in_pool.py"), str(home.root), end]
    mark = home.root / "at-work"
    mark.unlink(missing_ok=True)
    environment = {**os.environ, "PYTHONPATH": f"{SUPPORT.parents[1]}"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not (mark.exists() and mark.read_text()):
            assert process.poll() is None or mark.exists()
            time.sleep(0.1)
        yield mark.read_text(), process
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    open_instance(home).event_log_storage.set_concurrency_slots(DEVICE_POOL, 1)
    return home


@pytest.mark.slow
def test_a_run_whose_process_died_has_failed_and_gives_back_its_place(home: Home) -> None:
    instance = open_instance(home)
    with running(home, "die") as (run_id, process):
        process.wait()
    pool = instance.event_log_storage.get_concurrency_info(DEVICE_POOL)
    assert {slot.run_id for slot in pool.claimed_slots} == {run_id}
    assert instance.get_run_by_id(run_id).status == dg.DagsterRunStatus.STARTED

    assert fail_dead_runs(instance, home) == [run_id]
    assert instance.get_run_by_id(run_id).status == dg.DagsterRunStatus.FAILURE
    assert instance.event_log_storage.get_concurrency_info(DEVICE_POOL).claimed_slots == []
    assert fail_dead_runs(instance, home) == []
    assert list((home.root / "dagster" / "alive").iterdir()) == []


@pytest.mark.slow
def test_a_run_that_is_at_work_is_left_alone(home: Home) -> None:
    instance = open_instance(home)
    with running(home, "wait") as (run_id, _):
        assert fail_dead_runs(instance, home) == []
        assert instance.get_run_by_id(run_id).status == dg.DagsterRunStatus.STARTED
        pool = instance.event_log_storage.get_concurrency_info(DEVICE_POOL)
        assert {slot.run_id for slot in pool.claimed_slots} == {run_id}
    assert fail_dead_runs(instance, home) == [run_id]


def test_a_run_that_never_took_its_lock_has_a_while(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    instance = open_instance(home)

    @dg.job
    def nothing() -> None:
        pass

    run = instance.create_run_for_job(nothing)
    instance.report_dagster_event(
        dg.DagsterEvent(event_type_value="PIPELINE_START", job_name="nothing"), run_id=run.run_id
    )
    assert fail_dead_runs(instance, home) == []
    begin_to_live(home, run.run_id)
    monkeypatch.setattr(alive, "GRACE", -1.0)
    assert fail_dead_runs(instance, home) == []
    let_go()
    assert fail_dead_runs(instance, home) == [run.run_id]


@pytest.mark.slow
def test_a_build_by_hand_holds_no_lock_when_it_is_over(built_once: World) -> None:
    assert list((built_once.home.root / "dagster" / "alive").iterdir()) == []


def test_a_run_of_another_home_is_left_to_its_launcher(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alive, "GRACE", -1.0)
    instance = open_instance(home)

    @dg.job
    def nothing() -> None:
        pass

    def started() -> str:
        run_id = instance.create_run_for_job(nothing).run_id
        instance.report_dagster_event(
            dg.DagsterEvent(event_type_value="PIPELINE_START", job_name="nothing"), run_id=run_id
        )
        return run_id

    ours, theirs = started(), started()
    tag_with_home(instance, home, ours)
    tag_with_home(instance, Home(tmp_path / "another machine"), theirs)
    assert fail_dead_runs(instance, home) == [ours]

    untagged = started()
    with monkeypatch.context() as patch:
        patch.setattr(alive, "launches_elsewhere", lambda instance: True)
        assert fail_dead_runs(instance, home) == []
    assert fail_dead_runs(instance, home) == [untagged]
