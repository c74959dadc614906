"""Asset learning_data: what is learned, D_L: training and validation rows."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from lwf_assets.errors import LwfError
from lwf_assets.store.layout import LEARNING_SCHEMA, TRAIN_ROWS, VALIDATION_ROWS, with_turns_column
from lwf_assets.store.tables import write_rows
from lwf_assets.tasks.rows import characters
from lwf_assets.tasks.task import Task

if TYPE_CHECKING:
    from lwf_assets.graph.work import Work


def materialize(work: Work) -> dict[str, Any]:
    """Write the training and validation rows of the learning task: id, prompt, target; of conversations messages."""
    name = work.learning_task
    train, validation = Task(name, work.study.learning_tasks[name]).learning_rows()
    if not train:
        raise LwfError(f"learning_tasks.{name}: its source gives no training rows; raise rows.train or give more data")
    schema = with_turns_column(LEARNING_SCHEMA, [*train, *validation])
    write_rows(work.out / TRAIN_ROWS, [asdict(row) for row in train], schema)
    write_rows(work.out / VALIDATION_ROWS, [asdict(row) for row in validation], schema)
    return {"train_rows": len(train), "validation_rows": len(validation), **characters(train)}
