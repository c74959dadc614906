"""JSON without NaN, which JSON does not have: what was not measured is null."""

from __future__ import annotations

import json
import math
from typing import Any


def to_json(value: Any) -> str:
    """`value` as indented JSON with sorted keys; numbers that are not finite become null."""
    return json.dumps(_finite(value), indent=2, sort_keys=True, allow_nan=False) + "\n"


def finite(value: float | None) -> float | None:
    """The number, or None where it is none."""
    return value if value is not None and math.isfinite(value) else None


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return finite(value) if isinstance(value, float) else value
