"""Numbers in the rows of a source, as a person would write them.

Formats and libraries store a number in more than one way: pandas turns a column of whole numbers into floats as soon as
one value is missing, and writes the missing one as NaN. A template would show `5.0` and `nan`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lwf_assets.tasks.rows import SourceRow

_EXACT = 2.0**53
"""Beyond it a float does not tell neighbouring whole numbers apart."""

_Path = tuple[str, ...]
"""Names of nested columns; the items of a list share one."""


def plain_numbers(rows: Sequence[SourceRow]) -> list[SourceRow]:
    """The rows with NaN and infinite numbers as missing values (None), and the floats of a column as whole numbers
    where all of them are whole; a column with a fraction stays as it is. `rows` are all those of one file or split.
    """
    fractions, has_floats = set[_Path](), False
    for row in rows:
        for path, number in _floats(row.columns, ()):
            has_floats = True
            if math.isfinite(number) and (not number.is_integer() or abs(number) > _EXACT):
                fractions.add(path)
    if not has_floats:
        return list(rows)
    return [replace(row, columns=_plain(row.columns, (), fractions)) for row in rows]


def _floats(value: Any, path: _Path) -> Iterator[tuple[_Path, float]]:
    if isinstance(value, float):
        yield path, value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _floats(inner, (*path, name))
    elif isinstance(value, list):
        for inner in value:
            yield from _floats(inner, (*path, "[]"))


def _plain(value: Any, path: _Path, fractions: set[_Path]) -> Any:
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return value if path in fractions else int(value)
    if isinstance(value, Mapping):
        return {name: _plain(inner, (*path, name), fractions) for name, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner, (*path, "[]"), fractions) for inner in value]
    return value
