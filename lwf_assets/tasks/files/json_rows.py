"""Rows of JSON Lines (one object a line) and of JSON (one list of objects)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from lwf_assets.errors import LwfError
from lwf_assets.tasks.files.streams import LONGEST_LINE, text_lines
from lwf_assets.tasks.rows import beginning

if TYPE_CHECKING:
    from pathlib import Path

EXAMPLE = '{"prompt": "...", "answer": "..."}'


def read_json_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """One row a line; blank lines are passed over."""
    for number, line in enumerate(text_lines(path, longest=LONGEST_LINE), start=1):
        if not line.strip():
            continue
        place = f"{path}, line {number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise LwfError(f"{place}: not JSON: {_trouble(error)}; the line begins {beginning(line)}") from error
        if not isinstance(row, dict):
            raise LwfError(f"{place}: each line must be one object such as {EXAMPLE}; it is {beginning(line)}")
        _check_text(row, place)
        yield place, row


def read_json(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects of a list, which is the whole document or the only list in the object that the document is."""
    try:
        document = json.loads("".join(text_lines(path)))
    except json.JSONDecodeError as error:
        raise LwfError(f"{path}, line {error.lineno}: not JSON: {_trouble(error)}") from error
    except (ValueError, RecursionError) as error:
        raise LwfError(f"{path}: not JSON: {_trouble(error)}") from error
    if isinstance(document, dict):
        lists = {name: value for name, value in document.items() if isinstance(value, list)}
        if len(lists) != 1:
            found = ", ".join(map(repr, lists)) or "none"
            raise LwfError(
                f"{path}: rows must be in one list; the lists in this object are: {found}; write [{EXAMPLE}, ...]"
            )
        (document,) = lists.values()
    if not isinstance(document, list):
        raise LwfError(f"{path}: must hold one list of objects such as [{EXAMPLE}, ...]")
    for number, row in enumerate(document, start=1):
        place = f"{path}, row {number}"
        if not isinstance(row, dict):
            raise LwfError(f"{place}: each row must be one object such as {EXAMPLE}; it is {beginning(row)}")
        _check_text(row, place)
        yield place, row


def _trouble(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at character {error.colno}"
    return "it has too many lists or objects within each other" if isinstance(error, RecursionError) else str(error)


def _check_text(row: dict[str, Any], place: str) -> None:
    try:
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        half = ascii(error.object[error.start])
        raise LwfError(f"{place}: {half} is half of a surrogate pair, which is not valid text") from error
