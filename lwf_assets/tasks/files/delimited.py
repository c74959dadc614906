"""Rows of CSV and TSV, whatever stands between the cells: a comma, a semicolon or a tab."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any

from lwf_assets.errors import LwfError
from lwf_assets.tasks.files.streams import LONGEST_LINE, text_lines
from lwf_assets.tasks.rows import beginning

if TYPE_CHECKING:
    from pathlib import Path

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab"}


def read_delimited(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """One row a line, its columns named by the first line; all values are text."""
    lines = text_lines(path, longest=LONGEST_LINE)
    first = next(lines, "")
    delimiter = delimiter_of(first)
    csv.field_size_limit(LONGEST_LINE)  # for all of this process; by default less than a long text has
    reader = csv.reader(chain([first], lines), delimiter=delimiter, strict=True)
    header: list[str] | None = None
    while True:
        place = f"{path}, line {reader.line_num + 1}"
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise LwfError(f"{place}: not CSV: {error}") from error
        if not cells:
            continue
        if header is None:
            header = cells
            doubled = sorted({name for name in header if header.count(name) > 1})
            if doubled:
                raise LwfError(
                    f"{place}: column {doubled[0]!r} appears twice; the names in the first line must be unique"
                )
        elif len(cells) != len(header):
            raise LwfError(
                f"{place}: {len(cells)} cells where the first line names {len(header)} columns; a text with a "
                f'{DELIMITERS[delimiter]} or a line break must be in "quotes"; the row begins '
                f"{beginning(delimiter.join(cells))}"
            )
        else:
            yield place, dict(zip(header, cells, strict=True))


def delimiter_of(header: str) -> str:
    """The delimiter that parts the first line into most columns, quotes respected; a comma when none does."""

    def columns(delimiter: str) -> int:
        return len(next(csv.reader([header], delimiter=delimiter), []))

    return max(DELIMITERS, key=columns)
