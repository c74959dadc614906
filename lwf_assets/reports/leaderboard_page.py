"""Every cell of a study as one HTML file: the grid of verdicts, the arms over the cells, and the tables behind them."""

from __future__ import annotations

from collections.abc import Sequence

from lwf_assets.comparison.records import ArmRow, LeaderboardRow
from lwf_assets.reports.page_environment import page_environment
from lwf_assets.reports.wording import caution, leaderboard_outcome


def leaderboard_page(study: str, rows: Sequence[LeaderboardRow], arms: Sequence[ArmRow] = ()) -> str:
    """The leaderboard as a whole HTML page; `arms` has every compared model in every cell, LWF too."""
    template = page_environment().get_template("leaderboard.html.j2")
    learning_tasks = list(dict.fromkeys(row.learning_task for row in rows))
    forgetting_tasks = {row.forgetting_task for row in rows}
    # The tasks that are also learned in the order of the rows, so that the grid's diagonal is its diagonal.
    columns = [task for task in learning_tasks if task in forgetting_tasks]
    columns += [task for task in dict.fromkeys(row.forgetting_task for row in rows) if task not in columns]
    labels = {arm.effect.model: "LWF" if arm.effect.model == "lwf" else arm.label for arm in arms}
    return template.render(
        study=study,
        rows=rows,
        outcome=leaderboard_outcome(rows),
        caution=caution({row.seeds for row in rows if row.seeds}),
        learning_tasks=learning_tasks,
        forgetting_tasks=columns,
        cells={(row.learning_task, row.forgetting_task): row for row in rows},
        arm_labels=labels,
        arm_effects={(arm.effect.model, arm.learning_task, arm.forgetting_task): arm.effect for arm in arms},
    )
