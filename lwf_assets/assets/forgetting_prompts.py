"""Asset forgetting_prompts: the prompts of D_F. They need no answers."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from lwf_assets.errors import LwfError
from lwf_assets.graph.settings import source_tasks
from lwf_assets.store.layout import PROMPTS
from lwf_assets.store.tables import write_rows
from lwf_assets.tasks.rows import characters, with_turns
from lwf_assets.tasks.task import Task

if TYPE_CHECKING:
    from lwf_assets.graph.work import Work
    from lwf_assets.tasks.rows import PromptRow


def materialize(work: Work) -> dict[str, Any]:
    """Write the prompts of a forgetting task, or of all of them for `mixed`: id, prompt, source_task.

    Where one is a conversation, also the messages.
    """
    rows = []
    asked: list[PromptRow] = []
    counts = {}
    for name in source_tasks(work.study, work.partition):
        prompts = Task(name, work.study.forgetting_tasks[name]).prompt_rows()
        if not prompts:
            raise LwfError(f"forgetting_tasks.{name}: its source gives no prompts; raise rows.train or give more data")
        counts[name] = len(prompts)
        asked += prompts
        rows += [{**asdict(row), "id": f"{name}/{row.id}"} for row in prompts]
    write_rows(work.out / PROMPTS, with_turns(rows))
    return {
        "prompts": len(rows),
        **{f"prompts_of_{name}": count for name, count in counts.items() if len(counts) > 1},
        **characters(asked),
    }
