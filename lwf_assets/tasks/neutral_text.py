"""Neutral text: passages that no fine-tune should make less likely."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from lwf_assets.errors import LwfError


@dataclass(frozen=True)
class Passage:
    """One passage."""

    id: str
    text: str


def read_passages(path: Path) -> list[Passage]:
    """The passages of a JSONL file with `id` and `text`.

    Raises:
        LwfError: no such file, or a line that is no passage; the message names the line.
    """
    key = "evaluation.neutral_text"
    try:
        lines = path.read_text(encoding="utf-8").split("\n")  # not splitlines, which also breaks within a string
    except (OSError, UnicodeDecodeError) as error:
        raise LwfError(f"{key}: {path} cannot be read: {error}") from None
    passages: dict[str, tuple[int, Passage]] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        place = f"{key}: {path}, line {number}"
        passage = _passage(place, line)
        if passage.id in passages:
            first, _ = passages[passage.id]
            raise LwfError(f"{place}: id {passage.id!r} was used before, in line {first}; give each passage its own")
        passages[passage.id] = number, passage
    if not passages:
        raise LwfError(f"{key}: {path} has no passages")
    return [passage for _, passage in passages.values()]


def _passage(place: str, line: str) -> Passage:
    try:
        values = json.loads(line)
    except json.JSONDecodeError as error:
        raise LwfError(f"{place}: not valid JSON: {error.msg}") from None
    if not isinstance(values, dict) or not all(str(values.get(k) or "").strip() for k in ("id", "text")):
        raise LwfError(f"{place}: give an object with `id` and `text`, neither of them empty")
    return Passage(str(values["id"]), str(values["text"]).strip())
