"""Prompt templates: `str.format` over the columns of a row."""

from __future__ import annotations

from dataclasses import dataclass
from string import Formatter
from typing import TYPE_CHECKING, Any

from lwf_assets.errors import LwfError

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Absent:
    """Stands in a row for a column that has no usable value, and says why."""

    reason: str


def template_columns(template: str) -> list[str]:
    """Names of the columns that `template` shows, in order.

    Raises ValueError for unbalanced braces and for anything but a plain column name between them.
    """
    names = []
    for _, name, specification, conversion in Formatter().parse(template):
        if name is None:
            continue
        if not name or name.isdigit() or specification or conversion or any(sign in name for sign in ".[]"):
            raise ValueError(
                f"{{{name}}} in the template is not a plain column name; write {{column}}, and double a brace that "
                "is meant as text"
            )
        names.append(name)
    return names


def render(template: str, columns: Mapping[str, Any], *, place: str, role: str) -> str:
    """Fill `template` from one row and take off the white space around the result's end.

    `role` is what the text is for ("prompt", "answer", ...) and `place` where the row is; both appear in messages.
    Raises LwfError when a column is missing or has no text, or when all columns that the template shows are empty.
    """
    values = {}
    for name in template_columns(template):
        if name not in columns:
            known = ", ".join(sorted(columns)) or "none"
            raise LwfError(f"{place}: no {role}: unknown column {name!r}; the columns here are: {known}")
        value = columns[name]
        if isinstance(value, Absent):
            raise LwfError(f"{place}: no {role}: {value.reason}")
        if not isinstance(value, str | int | float | None):
            kind = type(value).__name__
            raise LwfError(f"{place}: no {role}: column {name!r} holds a {kind}; a template accepts text or numbers")
        values[name] = "" if value is None else str(value)
    # One empty column among several may be meant (an optional context); a template with nothing in it never is.
    if values and not any(value.strip() for value in values.values()):
        names = " and ".join(repr(name) for name in values)
        raise LwfError(f"{place}: no {role}: column {names} is empty; every row needs text there")
    # Only the end: indentation at the start of a prompt may be meant.
    return template.format_map(values).rstrip()
