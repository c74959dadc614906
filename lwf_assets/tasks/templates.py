"""Prompt templates: text with `{column}` in it, filled from one row.

`{ticket.body}` and `{choices[0]}` reach into nested columns.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from string import Formatter
from types import MappingProxyType
from typing import Any

from lwf_assets.errors import LwfError

_NAME = re.compile(r"[^.\[\]]+(?:\.[^.\[\]]+|\[[^.\[\]]+\])*")
_STEP = re.compile(r"[^.\[\]]+")


@dataclass(frozen=True)
class Absent:
    """Stands in a row for a column that has no usable value, and says why."""

    reason: str


def template_columns(template: str) -> list[str]:
    """Names of the columns that `template` shows, in order, such as `question` and `choices[0]`.

    Raises ValueError for unbalanced braces and for anything but the name of a column between them.
    """
    names = []
    for _, name, specification, conversion in Formatter().parse(template):
        if name is None:
            continue
        if not _NAME.fullmatch(name) or name.isdigit() or specification or conversion:
            raise ValueError(
                f"{{{name}}} in the template is not the name of a column; write {{column}}, {{column.inner}} or "
                "{column[0]}, and double a brace that is meant as text"
            )
        names.append(name)
    return names


def render(
    template: str, columns: Mapping[str, Any], *, place: str, role: str, texts: Mapping[str, str] = MappingProxyType({})
) -> str:
    """Fill `template` from one row and take off the white space around the result's end.

    `texts` are shown in place of the columns of these names. `role` is what the text is for ("prompt", "answer", ...)
    and `place` where the row is; both appear in messages. Raises LwfError when a column is missing or has no text, or
    when all columns that the template shows are empty.
    """
    parts, shown = list[str](), dict[str, str]()
    for text, name, _, _ in Formatter().parse(template):
        parts.append(text)
        if name is None:
            continue
        try:
            value = texts[name] if name in texts else lookup(name, columns)
        except LookupError as error:
            raise LwfError(f"{place}: no {role}: {error.args[0]}") from None
        if isinstance(value, Absent):
            raise LwfError(f"{place}: no {role}: {value.reason}")
        if not isinstance(value, str | int | float | None):
            raise LwfError(f"{place}: no {role}: {_wrong_kind(name, value)}")
        shown[name] = "" if value is None else str(value)
        parts.append(shown[name])
    # One empty column among several may be meant (an optional context); a template with nothing in it never is.
    if shown and not any(value.strip() for value in shown.values()):
        names = " and ".join(map(repr, shown))
        raise LwfError(f"{place}: no {role}: column {names} is empty; every row needs text there")
    # Only the end: indentation at the start of a prompt may be meant.
    return "".join(parts).rstrip()


def lookup(name: str, columns: Mapping[str, Any]) -> Any:
    """The value of a column, or of what is nested in it; None where a value on the way is missing.

    A column that has exactly this name, dots and brackets included, goes first, as flattened tables have them. Raises
    LookupError with a message when there is no such column.
    """
    if name in columns:
        return columns[name]
    first, *steps = _STEP.findall(name)
    if first not in columns:
        known = ", ".join(sorted(map(str, columns))) or "none"
        raise LookupError(f"unknown column {first!r}; the columns here are: {known}")
    value, reached = columns[first], first
    for step in steps:
        if value is None or isinstance(value, Absent):
            return value
        value, reached = _inner(value, step, reached), f"{reached}.{step}"
    return value


def _inner(value: Any, step: str, reached: str) -> Any:
    if isinstance(value, Mapping):
        if step not in value:
            known = ", ".join(sorted(map(str, value))) or "nothing"
            raise LookupError(f"column {reached!r} has no {step!r}; it has: {known}")
        return value[step]
    if isinstance(value, list):
        if not step.isdecimal() or int(step) >= len(value):
            raise LookupError(f"column {reached!r} has no item {step!r}; it has {len(value)}, counted from 0")
        return value[int(step)]
    raise LookupError(f"column {reached!r} holds a {type(value).__name__}, so there is no {step!r} in it")


def _wrong_kind(name: str, value: Any) -> str:
    inner = ""
    if isinstance(value, list) and value:
        inner = f"; {{{name}[0]}} is its first item"
    elif isinstance(value, Mapping) and value:
        inner = f"; {{{name}.{next(iter(value))}}} reaches into it"
    return f"column {name!r} holds a {type(value).__name__}; a template accepts text or numbers{inner}"
