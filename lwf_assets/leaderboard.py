"""Asset leaderboard: the paper's table, learning task by forgetting task, from every eval report."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from lwf_assets.reports.cell_report import BASE, LWF, REFERENCE
from lwf_assets.eval_report import read_summary
from lwf_assets.reports.report import Interval, LeaderboardRow
from lwf_assets.reports.page import leaderboard_page
from lwf_assets.tables import write_rows

if TYPE_CHECKING:
    from lwf_assets.work import Work

FILE = "leaderboard.parquet"
PAGE = "leaderboard.html"


def materialize(work: Work) -> dict[str, Any]:
    """Write one row per cell, and a page."""
    rows = [_row(read_summary(folder)) for folder in work.all_inputs("eval_report").values()]
    write_rows(work.out / FILE, [asdict(row) for row in rows])
    (work.out / PAGE).write_text(leaderboard_page(work.study.name, rows), encoding="utf-8")
    best = max(rows, key=lambda row: row.difference.mean)
    return {
        "cells": len(rows),
        "best_cell": f"{best.forgetting_task}|{best.learning_task}",
        "best_difference": best.difference.mean,
    }


def _row(summary: dict[str, Any]) -> LeaderboardRow:
    measure = summary["primary_measure"]
    figures = {entry["model"]: _interval(entry["measures"][measure]) for entry in summary["models"]}
    return LeaderboardRow(
        learning_task=summary["learning_task"],
        forgetting_task=summary["forgetting_task"],
        primary_measure=measure,
        base=figures[BASE],
        reference=figures[REFERENCE],
        lwf=figures[LWF],
        difference=_interval(summary["difference"]["interval"]),
        items=summary["difference"]["items"],
        seeds=summary["difference"]["seeds"],
    )


def _interval(values: dict[str, float | None]) -> Interval:
    return Interval(**{name: math.nan if value is None else value for name, value in values.items()})
