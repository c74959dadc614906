"""A database of Dagster's is marked with its last migration, however often the scripts are read."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from alembic.script import Script, ScriptDirectory
from dagster._core.storage.event_log import SqliteEventLogStorage

from dagster_project.builds.migrations import migrations_read_once


def marks(folder: Path, runs: int) -> set[str]:
    """The last migration that the databases of so many runs are marked with."""
    storage = SqliteEventLogStorage(str(folder))
    found = set()
    for run in range(runs):
        storage.get_logs_for_run(f"run-{run}")
        with closing(sqlite3.connect(folder / f"run-{run}.db")) as database:
            found |= {mark for (mark,) in database.execute("SELECT version_num FROM alembic_version")}
    return found


def test_scripts_are_read_once_and_the_databases_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    as_ever = marks(tmp_path / "as-ever", 2)
    read: list[str] = []

    class Counted(Script):
        def __init__(self, module: object, rev_id: str, path: str) -> None:
            read.append(rev_id)
            super().__init__(module, rev_id, path)

    monkeypatch.setattr("alembic.script.base.Script", Counted)
    before = ScriptDirectory.__dict__["from_config"]
    with migrations_read_once():
        assert marks(tmp_path / "once", 3) == as_ever
    assert len(as_ever) == 1
    assert len(read) == len(set(read)) > 50
    assert ScriptDirectory.__dict__["from_config"] is before
