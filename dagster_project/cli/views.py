"""DuckDB views over the store: the current rows of every table, with the partition as columns."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq

from lwf_assets.errors import LwfError
from lwf_assets.graph.cells import partitions_of, specs_of
from lwf_assets.store.layout import SEEDS, TABLES, seed_folder, seeds_of
from lwf_assets.store.partition import FORGETTING_TASK, LEARNING_TASK
from lwf_assets.store.store import Store
from lwf_assets.study.study import Study


def query_store(study: Study, store: Store, query: str) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Column names and rows of one query over the views.

    An asset with one table is a view of the asset's name; one with several is a view of its largest table under that
    name, and one `asset__table` each. Each view begins with the columns `forgetting_task` and `learning_task`, and
    where an asset has them `arm`, `model` or `prior`, and `seed`.

    Raises:
        LwfError: the query is not valid; the message names the views there are.
    """
    with duckdb.connect() as database:
        views = _make_views(database, study, store)
        try:
            cursor = database.execute(query)
        except duckdb.Error as error:
            raise LwfError(f"sql: {error}; the views are {', '.join(views) or 'none: nothing is built yet'}") from None
        if cursor is None or cursor.description is None:
            return [], []
        return [column[0] for column in cursor.description], cursor.fetchall()


def _make_views(database: duckdb.DuckDBPyConnection, study: Study, store: Store) -> list[str]:
    views = []
    for spec in specs_of(study):
        names = dict.fromkeys((FORGETTING_TASK, LEARNING_TASK, *spec.dimensions))
        tables: dict[str, list[tuple[Path, dict[str, str | int | None]]]] = {}
        for partition in partitions_of(study, spec):
            artifact = store.current(spec.name, partition)
            if artifact is not None:
                store.verify(artifact, TABLES)
            for path, seed in _tables(artifact.path) if artifact else ():
                place = {name: getattr(partition, name) for name in names} | seed
                # A table's own columns take precedence over those of its partition: a model may be measured by task.
                own = set(pq.read_schema(path).names)
                tables.setdefault(path.stem, []).append((path, {k: v for k, v in place.items() if k not in own}))
        for name, places in tables.items():
            union = " UNION ALL BY NAME ".join(
                f"SELECT {''.join(f'{_literal(value)} AS {key}, ' for key, value in place.items())}* "
                f"FROM read_parquet({_literal(str(path))})"
                for path, place in places
            )
            own_name = name == spec.name or len(tables) == 1 or f"{name}.parquet" == spec.table
            names_of_view = {f"{spec.name}__{name}" if name != spec.name else name, spec.name if own_name else None}
            for view in names_of_view - {None}:
                database.execute(f'CREATE VIEW "{view}" AS {union}')
                views.append(str(view))
    return sorted(views)


def _tables(artifact: Path) -> Iterator[tuple[Path, dict[str, int]]]:
    """The tables of an artifact, then those of each of its seeds, with the seed."""
    yield from ((path, {}) for path in sorted(artifact.glob("*.parquet")))
    for seed in seeds_of(artifact) if (artifact / SEEDS).is_file() else ():
        yield from ((path, {"seed": seed}) for path in sorted(seed_folder(artifact, seed).glob("*.parquet")))


def _literal(value: str | int | None) -> str:
    if value is None or isinstance(value, int):
        return "NULL" if value is None else str(value)
    return "'" + value.replace("'", "''") + "'"
