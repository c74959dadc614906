"""SQLite databases that are made whole or not at all, whenever the process that makes them is killed.

Dagster and MLflow make theirs statement by statement, in place, and do not get over half of one: killed while MLflow
copies a table for a migration, it fails on the copy (`_alembic_tmp_..` already exists) for ever after. So a database is
made in a folder beside its place, and renamed when it is whole. One that an older version left half made is made anew,
if there is nothing in it. (In PostgreSQL both do it in a transaction.)
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from filelock import FileLock


def make_whole(place: Path, make: Callable[[Path], object], databases: dict[str, str]) -> None:
    """Make the file or folder `place` if it is not there whole.

    Args:
        place: where the databases are to be.
        make: makes them at the path that it is given, and lets go of them.
        databases: of each database, its path below `place` ("" for `place` itself) and a table that has a row as soon
            as the database is whole.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    if _is_whole(place, databases) and not _folders_beside(place):
        return
    with FileLock(place.parent / f"{place.name}.lock"):
        for abandoned in _folders_beside(place):  # its maker held this lock, and was killed
            shutil.rmtree(abandoned, ignore_errors=True)
        if _is_whole(place, databases):
            return
        with tempfile.TemporaryDirectory(prefix=f".{place.name}-", dir=place.parent) as beside:
            fresh = Path(beside) / place.name
            make(fresh)
            _remove(place)
            fresh.rename(place)


def _folders_beside(place: Path) -> list[Path]:
    return list(place.parent.glob(f".{place.name}-*"))


def _is_whole(place: Path, databases: dict[str, str]) -> bool:
    """Whether each database is whole, or has something in it, which is not ours to remove."""
    return all(_is_whole_database(place / name, table) for name, table in databases.items()) or any(
        _has_rows(place / name) for name in databases
    )


def _is_whole_database(path: Path, table: str) -> bool:
    return _count(path, table) > 0


def _has_rows(path: Path) -> bool:
    """Whether any table has a row, apart from what the makers themselves note down."""
    if not path.is_file():
        return False
    try:
        with closing(_open(path)) as database:
            names = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    except sqlite3.DatabaseError:
        return True
    own = ("alembic_version", "secondary_indexes", "instance_info", "sqlite_sequence")
    return any(_count(path, name) for name in names if name not in own)


def _count(path: Path, table: str) -> int:
    if not path.is_file():
        return 0
    try:
        with closing(_open(path)) as database:
            return int(database.execute(f'SELECT count(*) FROM (SELECT 1 FROM "{table}" LIMIT 1)').fetchone()[0])
    except sqlite3.DatabaseError as error:
        return 0 if "no such table" in str(error) else 1  # busy, or damaged: not ours to make anew


def _open(path: Path) -> sqlite3.Connection:
    # To write too: what a killed process was at has to be rolled back before anything can be read.
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=60)


def _remove(place: Path) -> None:
    if place.is_dir():
        shutil.rmtree(place)
    for left in place.parent.glob(f"{place.name}-*"):  # the journals of a database that was never whole
        if left.name in (f"{place.name}-journal", f"{place.name}-wal", f"{place.name}-shm"):
            left.unlink()
