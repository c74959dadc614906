"""Asset test_data: what the learning task is measured on, apart from learning_data so that a new test set retrains
nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lwf_assets.errors import LwfError
from lwf_assets.store.layout import TEST_ROWS, TEST_SCHEMA, with_turns_column
from lwf_assets.store.tables import write_rows
from lwf_assets.tasks.rows import characters
from lwf_assets.tasks.task import Task

if TYPE_CHECKING:
    from lwf_assets.graph.work import Work


def materialize(work: Work) -> dict[str, Any]:
    """Write the test rows: id, prompt, target, answer, choices, and what the scorer needs."""
    name = work.learning_task
    rows = Task(name, work.study.learning_tasks[name]).test_rows()
    if not rows:
        raise LwfError(f"learning_tasks.{name}: its source gives no test rows; raise rows.test or give more data")
    write_rows(work.out / TEST_ROWS, [row.to_table() for row in rows], with_turns_column(TEST_SCHEMA, rows))
    return {"test_rows": len(rows), **characters(rows)}
