"""Asset utility_data: what every model is measured on beside its learning task.

The forgetting tasks' own tests, where they have one; tasks that are neither learned nor forgotten; neutral text.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lwf_assets.graph.settings import utility_tasks
from lwf_assets.store.tables import read_rows, write_rows
from lwf_assets.tasks.neutral_text import read_passages
from lwf_assets.tasks.rows import TestRow
from lwf_assets.tasks.task import Task

if TYPE_CHECKING:
    from pathlib import Path

    from lwf_assets.graph.work import Work

ITEMS = "items.parquet"
NEUTRAL = "neutral.parquet"

_TEXTS = ("group", "task", "id", "prompt", "target", "answer", "scorer_data")
_ITEMS_SCHEMA = pa.schema([*((name, pa.string()) for name in _TEXTS), ("choices", pa.list_(pa.string()))])
_NEUTRAL_SCHEMA = pa.schema([("id", pa.string()), ("text", pa.string())])


def materialize(work: Work) -> dict[str, Any]:
    """Write the test rows of every such task, and the passages."""
    rows = [
        {"group": group, "task": name, **row.to_table()}
        for group, tasks in utility_tasks(work.study).items()
        for name, task in tasks.items()
        for row in Task(name, task).test_rows()
    ]
    path = work.study.evaluation.neutral_text
    passages = [] if path is None else read_passages(path)
    write_rows(work.out / ITEMS, rows, _ITEMS_SCHEMA)
    write_rows(work.out / NEUTRAL, [asdict(passage) for passage in passages], _NEUTRAL_SCHEMA)
    return {"items": len(rows), "passages": len(passages)}


def read_utility_rows(folder: Path) -> dict[tuple[str, str], list[TestRow]]:
    """The test rows by group and task."""
    by_task: dict[tuple[str, str], list[TestRow]] = {}
    for row in read_rows(folder / ITEMS):
        by_task.setdefault((row["group"], row["task"]), []).append(TestRow.from_table(row))
    return by_task
