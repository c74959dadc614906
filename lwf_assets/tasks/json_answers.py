"""JSON in responses, and when two values are the same."""

from __future__ import annotations

import json
from typing import Any

_NOTHING = object()


def same_json(response: str, answer: str) -> tuple[bool, str | None]:
    """Whether the first JSON value in `response` is that of `answer`, and it as JSON; None where there is none.

    The order of keys does not count, and 1 is 1.0, but true is not 1.

    Raises:
        ValueError: `answer` is not JSON.
    """
    found = first_json(response)
    if found is _NOTHING:
        return False, None
    return _same(found, json.loads(answer)), json.dumps(found, ensure_ascii=False, sort_keys=True)


def first_json(text: str) -> Any:
    """The text itself as JSON; else the first object or list in it, as in a fence or after a sentence."""
    try:
        return json.loads(text)
    except ValueError:
        pass
    decoder = json.JSONDecoder()
    for start, character in enumerate(text):
        if character in "{[":
            try:
                return decoder.raw_decode(text, start)[0]
            except ValueError:
                continue
    return _NOTHING


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)
