"""The rows that a task gives to the rest of the system."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

Split = Literal["train", "validation", "test"]


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

    def to_table(self) -> dict[str, Any]:
        """As a row of a table."""
        return {**asdict(self), "choices": list(self.choices)}

    @classmethod
    def from_table(cls, row: Mapping[str, Any]) -> TestRow:
        """The inverse of `to_table`; other columns are left aside."""
        values = {field.name: row[field.name] for field in fields(cls)}
        return cls(**{**values, "choices": tuple(values["choices"])})


@dataclass(frozen=True)
class PromptRow:
    """One prompt that the base model shall answer by itself."""

    id: str
    prompt: str
    source_task: str


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
