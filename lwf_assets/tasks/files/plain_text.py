"""Rows of a text file: one prompt a line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from lwf_assets.tasks.files.streams import LONGEST_LINE, text_lines

if TYPE_CHECKING:
    from pathlib import Path


def read_text(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each line as the column `prompt`; blank lines are passed over."""
    for number, line in enumerate(text_lines(path, longest=LONGEST_LINE), start=1):
        if line.strip():
            yield f"{path}, line {number}", {"prompt": line.rstrip("\r\n")}
