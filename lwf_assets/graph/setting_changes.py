"""How two sets of settings differ, as text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def setting_changes(before: Any, after: Any, prefix: str = "") -> Iterator[str]:
    """One `key: old -> new` for each setting that differs, by its dotted key."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in [*before, *(key for key in after if key not in before)]:
            yield from setting_changes(before.get(key), after.get(key), f"{prefix}.{key}" if prefix else str(key))
    # To Python 1 is 1.0 and True; to a recipe it is not.
    elif type(before) is not type(after) or before != after:
        yield f"{prefix}: {_short(before)} -> {_short(after)}"


def _short(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:16]}..{text[-8:]}"
