"""The rows that a task gives to the rest of the system."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

Split = Literal["train", "validation", "test"]

Turns = tuple[dict[str, str], ...]
"""A conversation that a model is to continue: messages with `role` and `content`."""


@dataclass(frozen=True)
class SourceRow:
    """A row as it is in its source, before a prompt is made of it."""

    place: str
    """Where it is, as the beginning of an error message: `notes/questions.jsonl, line 3`."""
    id: str
    columns: Mapping[str, Any]
    entry: Mapping[str, Any] | None = None
    """A generator's whole item, which its own scorer wants back; None for every other source."""


@dataclass(frozen=True)
class LearningRow:
    """One example to fine-tune on. Prompt and target are to be joined by one space."""

    id: str
    prompt: str
    target: str
    messages: Turns | None = None
    """Of a conversation, what the model is shown in place of `prompt`, which then is for people to read."""

    @property
    def shown(self) -> str | Turns:
        """What the model is shown."""
        return self.messages or self.prompt


@dataclass(frozen=True)
class TestRow:
    """One example to score a model on."""

    __test__ = False  # or pytest takes the class for a test

    id: str
    prompt: str
    target: str
    """The whole text that a fine-tuned model should write."""
    answer: str
    """The part of it that is compared."""
    choices: tuple[str, ...]
    """The texts to choose between, as they follow the prompt after one space; empty for a generative task."""
    scorer_data: str
    """JSON object: what the scorer needs besides the answer."""
    messages: Turns | None = None
    """As of a LearningRow."""

    @property
    def shown(self) -> str | Turns:
        """What the model is shown."""
        return self.messages or self.prompt

    def to_table(self) -> dict[str, Any]:
        """As a row of a table."""
        return {**asdict(self), "choices": list(self.choices)}

    @classmethod
    def from_table(cls, row: Mapping[str, Any]) -> TestRow:
        """The inverse of `to_table`; other columns are left aside."""
        values: dict[str, Any] = {field.name: row.get(field.name) for field in fields(cls)}
        return cls(**{**values, "choices": tuple(row["choices"]), "messages": tuple(row.get("messages") or ()) or None})


@dataclass(frozen=True)
class PromptRow:
    """One prompt that the base model shall answer by itself."""

    id: str
    prompt: str
    source_task: str
    messages: Turns | None = None
    """As of a LearningRow."""


def prompt_of(row: Mapping[str, Any]) -> str | list[dict[str, str]]:
    """What the model is shown of a row of a table: the turns of a conversation, or the text of the prompt."""
    prompt: str | list[dict[str, str]] = row.get("messages") or row["prompt"]
    return prompt


def in_form(prompt: str | list[dict[str, str]], form: str) -> str | list[dict[str, str]]:
    """`form` with the prompt in the place of `{prompt}`; of a conversation it is the last turn that is put into it."""
    if isinstance(prompt, str):
        return form.replace("{prompt}", prompt)
    *earlier, last = prompt
    return [*earlier, {**last, "content": form.replace("{prompt}", last["content"])}]


def with_turns(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of a table without the column `messages` where none is a conversation."""
    if any(row.get("messages") for row in rows):
        return list(rows)
    return [{name: value for name, value in row.items() if name != "messages"} for row in rows]


def beginning(row: Any, length: int = 60) -> str:
    """The first characters of a row, for a message about it: of its text, or of it as JSON."""
    text = row.strip() if isinstance(row, str) else json.dumps(row, ensure_ascii=False, default=str)
    return text if len(text) <= length else f"{text[:length]}..."


def characters(rows: Sequence[LearningRow | TestRow | PromptRow]) -> dict[str, float]:
    """What a manifest of data says about the lengths of its rows, in characters."""
    targets = [row.target for row in rows if not isinstance(row, PromptRow)]
    prompt, target = sum(len(row.prompt) for row in rows), sum(map(len, targets))
    longest = max(len(row.prompt) + (0 if isinstance(row, PromptRow) else len(row.target)) for row in rows)
    return {
        "prompt_characters": round(prompt / len(rows), 1),
        **({"target_characters": round(target / len(rows), 1)} if targets else {}),
        "longest_characters": longest,
    }
