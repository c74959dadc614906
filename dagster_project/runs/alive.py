"""Whether the process of a run is alive: it holds a lock as long as it is, which the operating system lets go of.

Dagster learns of the death of a run's process from the process that started it. Where that died too, as when a machine
goes down, it never does: the run counts as started for ever, and whoever waits for it waits as long.
"""

from __future__ import annotations

import atexit
import time
from pathlib import Path

import dagster as dg
from dagster._core.storage.dagster_run import FINISHED_STATUSES
from filelock import FileLock

from lwf_assets.disk.locks import is_held
from lwf_assets.store.home import Home

GRACE = 60.0
"""Seconds from the start of a run until it must have taken its lock."""

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


def let_go() -> None:
    """The run of this process is over. A process that was started for one run need not call it: its end is the same."""
    while _held:
        lock = _held.pop()
        lock.release()
        Path(lock.lock_file).unlink(missing_ok=True)


atexit.register(let_go)


def fail_dead_runs(instance: dg.DagsterInstance, home: Home) -> list[str]:
    """Tell Dagster of every run whose process died; it starts those that builds launched again. Returns their ids."""
    started = instance.get_run_records(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))
    dead = [record for record in started if _is_dead(home, record)]
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


def _lock_of(home: Home, run_id: str) -> Path:
    return home.root / "dagster" / "alive" / f"{run_id}.lock"
