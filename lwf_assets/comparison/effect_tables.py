"""Effects as rows of Parquet and back from JSON: one row per model and measure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import pyarrow as pa

from lwf_assets.comparison.finite_json import finite
from lwf_assets.comparison.records import NAN, ArmEffect
from lwf_assets.statistics.interval import Interval

EFFECT_FIELDS = [
    ("model", pa.string()),
    ("measure", pa.string()),
    ("mean", pa.float64()),
    ("reference_mean", pa.float64()),
    ("difference", pa.float64()),
    ("low", pa.float64()),
    ("high", pa.float64()),
    ("p_value", pa.float64()),
    ("adjusted_p", pa.float64()),
    ("minimum_detectable", pa.float64()),
    ("verdict", pa.string()),
    ("seeds", pa.int64()),
    ("items", pa.int64()),
]
SCHEMA = pa.schema(EFFECT_FIELDS)


def effect_rows(effects: Sequence[ArmEffect]) -> list[dict[str, Any]]:
    """The rows of effects.parquet; what is not known is null."""
    rows = []
    for effect in effects:
        row: dict[str, Any] = {name: value for name, value in vars(effect).items() if name in SCHEMA.names}
        row |= {"difference": effect.difference.mean, "low": effect.difference.low, "high": effect.difference.high}
        rows.append({name: finite(value) if isinstance(value, float) else value for name, value in row.items()})
    return rows


def effect_from_json(values: Mapping[str, Any]) -> ArmEffect:
    """An effect as `asdict` and JSON have it, with NaN again where there is null."""
    numbers = {field.name for field in fields(ArmEffect) if field.type == "float"}
    known: dict[str, Any] = {
        name: NAN if value is None and name in numbers else value for name, value in values.items()
    }
    return ArmEffect(**{**known, "difference": interval_from_json(values["difference"])})


def interval_from_json(values: Mapping[str, float | None] | None) -> Interval:
    """An interval as `asdict` and JSON have it; all NaN where there is none."""
    found = [(values or {}).get(name) for name in ("mean", "low", "high")]
    return Interval(*(math.nan if value is None else value for value in found))
