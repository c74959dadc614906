"""Asset test_data: what the learning task is measured on, apart from learning_data so that a new test set retrains
nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lwf_assets.cost.row_counts import characters
from lwf_assets.errors import LwfError
from lwf_assets.store.tables import read_rows, write_rows
from lwf_assets.tasks.rows import TestRow
from lwf_assets.tasks.task import Task

if TYPE_CHECKING:
    from pathlib import Path

    from lwf_assets.graph.work import Work

FILE = "test.parquet"

_SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("id", "prompt", "target", "answer")]
    + [("choices", pa.list_(pa.string())), ("scorer_data", pa.string())]
)


def materialize(work: Work) -> dict[str, Any]:
    """Write the test rows: id, prompt, target, answer, choices, and what the scorer needs."""
    name = work.learning_task
    rows = Task(name, work.study.learning_tasks[name]).test_rows()
    if not rows:
        raise LwfError(f"learning_tasks.{name}: its source gives no test rows; raise rows.test or give more data")
    write_rows(work.out / FILE, [row.to_table() for row in rows], _SCHEMA)
    return {"test_rows": len(rows), **characters(rows)}


def read_test_rows(folder: Path) -> list[TestRow]:
    """The rows of a test_data artifact."""
    return [TestRow.from_table(row) for row in read_rows(folder / FILE)]
