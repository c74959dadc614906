"""Asset utility_data: what every model is measured on in addition to its learning task.

The forgetting tasks' own tests, where they have one; tasks that are neither learned nor forgotten; neutral text.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from lwf_assets.graph.settings import utility_tasks
from lwf_assets.store.layout import NEUTRAL_PASSAGES, NEUTRAL_SCHEMA, UTILITY_ITEMS, UTILITY_SCHEMA, with_turns_column
from lwf_assets.store.tables import write_rows
from lwf_assets.tasks.neutral_text import read_passages
from lwf_assets.tasks.task import Task

if TYPE_CHECKING:
    from lwf_assets.graph.work import Work


def materialize(work: Work) -> dict[str, Any]:
    """Write the test rows of every such task, and the passages."""
    asked = [
        (group, name, row)
        for group, tasks in utility_tasks(work.study).items()
        for name, task in tasks.items()
        for row in Task(name, task).test_rows()
    ]
    rows = [{"group": group, "task": name, **row.to_table()} for group, name, row in asked]
    path = work.study.evaluation.neutral_text
    passages = [] if path is None else read_passages(path)
    write_rows(work.out / UTILITY_ITEMS, rows, with_turns_column(UTILITY_SCHEMA, [row for _, _, row in asked]))
    write_rows(work.out / NEUTRAL_PASSAGES, [asdict(passage) for passage in passages], NEUTRAL_SCHEMA)
    return {"items": len(rows), "passages": len(passages)}
