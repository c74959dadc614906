"""Dagster's migration scripts, read once for as long as a build runs.

Every run has a database of its own for its events, and for each of these Dagster reads some ninety scripts twice, to note
down in it which one is the last.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from alembic.config import Config
from alembic.script import ScriptDirectory
from dagster._core.storage.sql import ALEMBIC_SCRIPTS_LOCATION

_READ = ScriptDirectory.__dict__["from_config"]


@contextmanager
def migrations_read_once() -> Iterator[None]:
    """Those of Dagster are; MLflow's are read as ever."""
    dagsters: list[ScriptDirectory] = []

    def from_config(scripts: type[ScriptDirectory], config: Config) -> ScriptDirectory:
        if dagsters and config.get_main_option("script_location") == ALEMBIC_SCRIPTS_LOCATION:
            return dagsters[0]
        read: ScriptDirectory = _READ.__func__(scripts, config)
        if config.get_main_option("script_location") == ALEMBIC_SCRIPTS_LOCATION:
            dagsters.append(read)
        return read

    setattr(ScriptDirectory, "from_config", classmethod(from_config))  # noqa: B010 - it is a method, to the type checker
    try:
        yield
    finally:
        setattr(ScriptDirectory, "from_config", _READ)  # noqa: B010
