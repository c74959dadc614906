"""Databases are made whole or not at all; half of one is made anew, and nothing that has something in it is touched."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from places import SUPPORT

from dagster_project.runs.databases import make_whole
from dagster_project.tracking.client import open_client

PARTS = {"": "finished"}


def _make(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.executescript("CREATE TABLE runs (id); CREATE TABLE finished (id); INSERT INTO finished VALUES (1);")


def _tables(path: Path) -> dict[str, int]:
    with closing(sqlite3.connect(path)) as database:
        names = [name for (name,) in database.execute("SELECT name FROM sqlite_master")]
        return {name: database.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in names}


def test_a_database_is_made_once(tmp_path: Path) -> None:
    made: list[Path] = []

    def make(path: Path) -> None:
        made.append(path)
        _make(path)

    for _ in range(2):
        make_whole(tmp_path / "a.db", make, PARTS)
    assert len(made) == 1
    assert _tables(tmp_path / "a.db") == {"runs": 0, "finished": 1}


@pytest.mark.parametrize(
    "left", ["", "CREATE TABLE runs (id)", "CREATE TABLE alembic_version (v); INSERT INTO alembic_version VALUES (1)"]
)
def test_half_a_database_with_nothing_in_it_is_made_anew(tmp_path: Path, left: str) -> None:
    path = tmp_path / "a.db"
    with closing(sqlite3.connect(path)) as database:
        database.executescript(left)
    path.touch()
    (tmp_path / "a.db-journal").write_text("of half a statement")
    (tmp_path / ".a.db-abandoned").mkdir()
    make_whole(path, _make, PARTS)
    assert _tables(path) == {"runs": 0, "finished": 1}
    assert {file.name for file in tmp_path.iterdir()} == {"a.db", "a.db.lock"}


def test_what_was_left_beside_a_whole_database_is_removed(tmp_path: Path) -> None:
    """Its maker was killed after the rename, before it had cleared up."""
    make_whole(tmp_path / "a.db", _make, PARTS)
    (tmp_path / ".a.db-abandoned").mkdir()
    make_whole(tmp_path / "a.db", _make, PARTS)
    assert {file.name for file in tmp_path.iterdir()} == {"a.db", "a.db.lock"}


def test_what_has_something_in_it_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with closing(sqlite3.connect(path)) as database:
        database.executescript("CREATE TABLE runs (id); INSERT INTO runs VALUES (7);")
    make_whole(path, _make, PARTS)
    assert _tables(path) == {"runs": 1}
    path.write_bytes(b"no database at all, or a damaged one" * 200)
    make_whole(path, _make, PARTS)
    assert path.read_bytes().startswith(b"no database")


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    def fail(path: Path) -> None:
        path.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        make_whole(tmp_path / "a.db", fail, PARTS)
    assert {file.name for file in tmp_path.iterdir()} == {"a.db.lock"}


def test_what_mlflow_makes_of_a_killed_set_up_is_no_longer_met(tmp_path: Path) -> None:
    """A table that a migration of MLflow's was copying when it was killed: it failed for ever, because it was there."""
    from mlflow.store.db.utils import create_sqlalchemy_engine
    from mlflow.store.tracking.dbmodels.initial_models import Base

    engine = create_sqlalchemy_engine(f"sqlite:///{tmp_path / 'mlflow.db'}")
    Base.metadata.create_all(engine)
    engine.dispose()
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database:
        database.execute("CREATE TABLE _alembic_tmp_latest_metrics (key)")
    client = open_client(f"sqlite:///{tmp_path / 'mlflow.db'}")
    assert client.create_experiment("after") is not None


@pytest.mark.slow
def test_a_set_up_may_be_killed_at_any_moment(tmp_path: Path) -> None:
    """A few of the moments, others each time; `make campaign` tries many more."""
    first = random.randrange(1, 550)
    done = subprocess.run(
        [sys.executable, str(SUPPORT / "killed_setups.py"), str(tmp_path), str(first), "550"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"from step {first}: {done.stderr[-3000:]}"
    assert int(done.stdout) > 1000
