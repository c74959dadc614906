"""Whether the process of a run is alive: it holds a lock as long as it is, which the operating system lets go of.

Dagster learns of the death of a run's process from the process that started it. Where that died too, as when a machine
goes down, it never does: the run counts as started for ever, and whoever waits for it waits as long.

A lock says nothing of another machine, so runs are tagged with the home that they are at. Those of other homes are left
to the launcher that started them, and to its own check of their health.
"""

from __future__ import annotations

import atexit
import time
import uuid
from pathlib import Path

import dagster as dg
from dagster._core.storage.dagster_run import FINISHED_STATUSES
from filelock import FileLock

from dagster_project.runs.instance import launches_elsewhere
from lwf_assets.disk.locks import is_held
from lwf_assets.disk.writing import write_atomically
from lwf_assets.store.home import Home

GRACE = 60.0
"""Seconds from the start of a run until it must have taken its lock."""

HOME_TAG = "lwf/home"
"""Run tag: the id of the home that the run is at."""

DIED = "The process of this run is no longer there: it was killed, or the machine went down."


_held: list[FileLock] = []
"""The lock of the run that this process is at, or was at last."""


def begin_to_live(home: Home, run_id: str) -> None:
    """Take the lock of a run, until `let_go`, the next run of this process, or its end."""
    let_go()
    path = _lock_of(home, run_id)
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, thread_local=False)
    lock.acquire()
    _held.append(lock)


def tag_with_home(instance: dg.DagsterInstance, home: Home, run_id: str) -> None:
    """Note at which home a run is."""
    instance.add_run_tags(run_id, {HOME_TAG: _id_of(home)})


def let_go() -> None:
    """The run of this process is over. A process that was started for one run need not call it: its end is the same."""
    while _held:
        lock = _held.pop()
        lock.release()
        Path(lock.lock_file).unlink(missing_ok=True)


atexit.register(let_go)


def fail_dead_runs(instance: dg.DagsterInstance, home: Home) -> list[str]:
    """Tell Dagster of every run of this home whose process died; it starts those that builds launched again. Returns
    their ids."""
    started = instance.get_run_records(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))
    # One that is not tagged died before it could be, here where runs are nowhere else.
    ours = {_id_of(home)} | (set() if launches_elsewhere(instance) else {None})
    dead = [record for record in started if record.dagster_run.tags.get(HOME_TAG) in ours and _is_dead(home, record)]
    for record in dead:
        instance.report_run_failed(record.dagster_run, DIED)
        _lock_of(home, record.dagster_run.run_id).unlink(missing_ok=True)
    _give_back_places(instance)
    return [record.dagster_run.run_id for record in dead]


def _give_back_places(instance: dg.DagsterInstance) -> None:
    """Those that runs have in a pool although they have ended: one that was killed could not give back its own, and all
    others would wait for it for ever."""
    storage = instance.event_log_storage
    holders = storage.get_concurrency_run_ids() if storage.supports_global_concurrency_limits else set()
    if holders:
        for record in instance.get_run_records(dg.RunsFilter(run_ids=list(holders), statuses=list(FINISHED_STATUSES))):
            storage.free_concurrency_slots_for_run(record.dagster_run.run_id)


def _is_dead(home: Home, record: dg.RunRecord) -> bool:
    path = _lock_of(home, record.dagster_run.run_id)
    if not path.exists():
        return record.start_time is not None and time.time() - record.start_time > GRACE
    return not is_held(path)


def _id_of(home: Home) -> str:
    """What this home is known by, whatever its machine is called today."""
    path = home.root / "dagster" / "home-id"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            if not path.exists():
                write_atomically(path, uuid.uuid4().hex)
    return path.read_text()


def _lock_of(home: Home, run_id: str) -> Path:
    return home.root / "dagster" / "alive" / f"{run_id}.lock"
