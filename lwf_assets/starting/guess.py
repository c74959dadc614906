"""What kind of task a file of rows is, by its first rows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from lwf_assets.errors import LwfError
from lwf_assets.tasks.choices import row_choices
from lwf_assets.tasks.columns import plain_numbers
from lwf_assets.tasks.conversations import holds_turns, read_conversation
from lwf_assets.tasks.files.read import read_files
from lwf_assets.tasks.rows import SourceRow

LOOKED_AT = 200
"""Rows that a guess is made from."""

_TARGETS = (
    *("answer", "answers", "target", "completion", "output", "response", "label", "labels", "category", "class"),
    *("intent", "summary", "translation", "team", "reply", "solution", "gold"),
)
_PROMPTS = (
    *("prompt", "question", "instruction", "input", "text", "body", "query", "sentence", "document", "source", "title"),
    "content",
)
_CHOICES = ("choices", "options")
_NOT_SHOWN = ("id", "idx", "index", "uuid", "split", "date", "url")
_MOST_LABELS, _ROWS_OF_A_LABEL, _SHORT, _LONG = 30, 4, 5, 30


@dataclass(frozen=True)
class Guess:
    """A task as the rows suggest it; `prompt` is empty for conversations, which need no template."""

    rows: int
    """How many were looked at."""
    prompt: str = ""
    target: str = ""
    choices: str = ""
    scorer: str = "exact"
    longest_answer: int = 0
    """In characters."""
    why: list[str] = field(default_factory=list)
    """What was seen, a sentence each."""

    @property
    def is_conversation(self) -> bool:
        """Whether the rows are conversations."""
        return not self.prompt

    @property
    def max_new_tokens(self) -> int:
        """Room for the longest answer: a token has seldom less than two characters."""
        return max(8, min(512, 8 * -(-self.longest_answer // 16)))


def guess_task(data: Path) -> tuple[Guess, list[SourceRow]]:
    """What the first rows of a file look like, and these rows.

    Raises:
        LwfError: the file cannot be read, or no column of it could be the answer.
    """
    rows = plain_numbers(list(islice(read_files([data], origin="train"), LOOKED_AT)))
    if all(holds_turns(row.columns) for row in rows):
        return _conversations(rows), rows
    columns = _columns(rows)
    target = _first_named(_TARGETS, columns) or _last_column(columns)
    prompts = [name for name in columns if name != target and name not in (*_NOT_SHOWN, *_CHOICES)]
    prompt = _first_named(_PROMPTS, {name: columns[name] for name in prompts}) or (prompts[0] if prompts else None)
    if target is None or prompt is None:
        raise LwfError(
            f"{data}: its rows have the columns {', '.join(columns) or 'none'}; one column is needed to ask with and "
            "one to answer with (or `messages`). Rename them, or write the study by hand: see docs/tasks.md"
        )
    choices = _choices(columns, rows)
    answers = [_answer(row.columns.get(target)) for row in rows]
    scorer, seen = ("choice", f"{choices!r} holds the choices of each row") if choices else _scorer(answers)
    why = [f"the model is shown {prompt!r} and should write {target!r}", seen]
    return Guess(
        len(rows),
        prompt=_template(prompt, prompts, columns),
        target=f"{{{target}}}",
        choices=f"{{{choices}}}" if choices else "",
        scorer=scorer,
        longest_answer=max(map(len, answers), default=0),
        why=why,
    ), rows


def _conversations(rows: Sequence[SourceRow]) -> Guess:
    talks = [read_conversation(row.columns, place=row.place) for row in rows]
    answers = [talk.answer.strip() for talk in talks if talk.answer is not None]
    if not answers:
        raise LwfError(f"{rows[0].place}: no conversation here ends in an answer; there is nothing to learn from them")
    scorer, seen = _scorer(answers)
    return Guess(
        len(rows),
        scorer=scorer,
        longest_answer=max(map(len, answers)),
        why=["the rows are conversations: the assistant's last turn is what is learned", seen],
    )


def _columns(rows: Sequence[SourceRow]) -> dict[str, list[Any]]:
    """The values of each column, in the order in which the columns come."""
    found: dict[str, list[Any]] = {}
    for row in rows:
        for name, value in row.columns.items():
            found.setdefault(name, []).append(value)
    return {name: values for name, values in found.items() if any(value not in (None, "") for value in values)}


def _first_named(names: Sequence[str], columns: Mapping[str, list[Any]]) -> str | None:
    by_name = {name.lower(): name for name in columns}
    return next((by_name[name] for name in names if name in by_name), None)


def _last_column(columns: Mapping[str, list[Any]]) -> str | None:
    usable = [name for name, values in columns.items() if name not in _NOT_SHOWN and _is_plain(values)]
    return usable[-1] if len(usable) > 1 else None


def _is_plain(values: Sequence[Any]) -> bool:
    return all(isinstance(value, str | int | float | None) for value in values)


def _choices(columns: Mapping[str, list[Any]], rows: Sequence[SourceRow]) -> str | None:
    name = _first_named(_CHOICES, columns)
    if name is None:
        return None
    try:
        for row in rows:
            row_choices(name, row.columns.get(name), place=row.place)
    except LwfError:
        return None
    return name


def _answer(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else str(value or "").strip()


def _scorer(answers: Sequence[str]) -> tuple[str, str]:
    """The scorer that fits the answers, and what was seen."""
    kinds = len(set(answers))
    words = sorted(len(answer.split()) for answer in answers)
    middle = words[len(words) // 2]
    if all(_is_object(answer) for answer in answers):
        return "json", "every answer is a JSON object or list"
    if 2 <= kinds <= min(_MOST_LABELS, len(answers) // _ROWS_OF_A_LABEL):
        return "label", f"the answers are {kinds} labels"
    if all(_is_number(answer) for answer in answers):
        return "numeric", "every answer is a number"
    if middle <= _SHORT:
        return "exact", f"the answers are short: {middle} words in the middle"
    if middle <= _LONG:
        return "token_f1", f"the answers are phrases: {middle} words in the middle"
    return "rouge_l", f"the answers are long: {middle} words in the middle"


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", ""))
    except ValueError:
        return False
    return True


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict | list)
    except ValueError:
        return False


def _template(prompt: str, others: Sequence[str], columns: Mapping[str, list[Any]]) -> str:
    """Of one column the column itself; a passage or an input that belongs to it is shown with it."""
    by_name = {name.lower(): name for name in others if _is_plain(columns[name])}
    passage = by_name.get("context") or by_name.get("passage")
    if passage and passage != prompt:
        return f"{{{passage}}}\n\n{{{prompt}}}"
    if prompt.lower() == "instruction" and "input" in by_name:
        return f"{{{prompt}}}\n{{{by_name['input']}}}"
    return f"{{{prompt}}}"
