"""Asset leaderboard: the paper's table, learning task by forgetting task, and every arm over the cells."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lwf_assets.comparison.effect_tables import EFFECT_FIELDS, effect_from_json, effect_rows, interval_from_json
from lwf_assets.comparison.finite_json import finite, to_json
from lwf_assets.comparison.records import MODELS, ArmRow, LeaderboardRow
from lwf_assets.reports.page import leaderboard_page
from lwf_assets.store.layout import LEADERBOARD, LEADERBOARD_ARMS, LEADERBOARD_JSON, LEADERBOARD_PAGE, read_summary
from lwf_assets.store.tables import write_rows

if TYPE_CHECKING:
    from lwf_assets.graph.work import Work


_NAMES = [("learning_task", pa.string()), ("forgetting_task", pa.string())]
_INTERVAL = pa.struct([(name, pa.float64()) for name in ("mean", "low", "high")])
SCHEMA = pa.schema(
    [
        *_NAMES,
        ("primary_measure", pa.string()),
        *((name, _INTERVAL) for name in (*MODELS, "difference")),
        ("verdict", pa.string()),
        ("adjusted_p", pa.float64()),
        ("minimum_detectable", pa.float64()),
        ("items", pa.int64()),
        ("seeds", pa.int64()),
    ]
)
ARMS_SCHEMA = pa.schema([*_NAMES, ("label", pa.string()), *EFFECT_FIELDS])


def materialize(work: Work) -> dict[str, Any]:
    """Write one row per cell, one per cell and model, the same as JSON, and a page."""
    summaries = [read_summary(folder) for folder in work.all_inputs("eval_report").values()]
    rows = [_row(summary) for summary in summaries]
    arms = [arm for summary in summaries for arm in _arms(summary)]
    write_rows(work.out / LEADERBOARD, [_null_for_nan(asdict(row)) for row in rows], SCHEMA)
    names = [{"learning_task": a.learning_task, "forgetting_task": a.forgetting_task, "label": a.label} for a in arms]
    effects = effect_rows([arm.effect for arm in arms])
    write_rows(work.out / LEADERBOARD_ARMS, [{**n, **e} for n, e in zip(names, effects, strict=True)], ARMS_SCHEMA)
    cells = [asdict(row) for row in rows]
    (work.out / LEADERBOARD_JSON).write_text(
        to_json({"study": work.study.name, "cells": cells, "arms": [asdict(a) for a in arms]})
    )
    (work.out / LEADERBOARD_PAGE).write_text(leaderboard_page(work.study.name, rows, arms), encoding="utf-8")
    return {
        "cells": len(rows),
        **{f"lwf_{word}": sum(row.verdict == word for row in rows) for word in ("helps", "hurts")},
        **_best(rows),
    }


def _row(summary: dict[str, Any]) -> LeaderboardRow:
    measure = summary["primary_measure"]
    figures = {entry["model"]: interval_from_json(entry["measures"].get(measure)) for entry in summary["models"]}
    found = [e for e in summary["effects"] if (e["model"], e["measure"]) == ("lwf", measure)]
    effect = effect_from_json(found[0]) if found else None
    return LeaderboardRow(
        learning_task=summary["learning_task"],
        forgetting_task=summary["forgetting_task"],
        primary_measure=measure,
        base=figures["base"],
        reference=figures["reference"],
        lwf=figures["lwf"],
        difference=interval_from_json(summary["difference"]["interval"]),
        verdict=summary["verdict"],
        adjusted_p=effect.adjusted_p if effect else math.nan,
        minimum_detectable=effect.minimum_detectable if effect else math.nan,
        items=summary["difference"]["items"],
        seeds=summary["difference"]["seeds"],
    )


def _arms(summary: dict[str, Any]) -> list[ArmRow]:
    labels = {entry["model"]: entry["label"] or entry["model"] for entry in summary["models"]}
    return [
        ArmRow(summary["learning_task"], summary["forgetting_task"], labels[effect["model"]], effect_from_json(effect))
        for effect in summary["effects"]
        if effect["measure"] == summary["primary_measure"]
    ]


def _best(rows: list[LeaderboardRow]) -> dict[str, Any]:
    from lwf_assets.comparison.measures import measure_of

    known = [row for row in rows if math.isfinite(row.difference.mean)]
    # Differences in different measures do not compare.
    if not known or len({row.primary_measure for row in known}) > 1:
        return {}
    sign = 1 if measure_of(known[0].primary_measure).higher_is_better else -1
    best = max(known, key=lambda row: sign * row.difference.mean)
    return {"best_cell": f"{best.forgetting_task}|{best.learning_task}", "best_difference": best.difference.mean}


def _null_for_nan(values: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _null_for_nan(value) if isinstance(value, dict) else finite(value) if isinstance(value, float) else value
        for name, value in values.items()
    }
