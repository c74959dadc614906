"""Rows that are conversations, in the shapes in which they are published.

`messages` (OpenAI: role, content), `conversations` (ShareGPT: from, value), or `prompt` and `completion` as lists of
messages (TRL). What comes up to the last turn of the assistant is the prompt; that turn is the target.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lwf_assets.errors import LwfError
from lwf_assets.tasks.rows import SourceRow, Turns

log = logging.getLogger(__name__)

ASSISTANT = "assistant"
_ROLES = {
    **{role: role for role in ("system", "developer", "user", ASSISTANT, "tool")},
    # ShareGPT's words, and those of older data sets.
    **{"human": "user", "gpt": ASSISTANT, "chatgpt": ASSISTANT, "bot": ASSISTANT, "model": ASSISTANT},
}
_NAMES = ("messages", "conversations", "conversation")
_TOOL_FIELDS = ("tools", "functions", "tool_calls", "function_call")


@dataclass(frozen=True)
class Conversation:
    """What the model is shown, and what it should say; None where nobody says how it goes on."""

    turns: Turns
    answer: str | None

    @property
    def text(self) -> str:
        """The turns for people to read; a single question is itself."""
        if len(self.turns) == 1 and self.turns[0]["role"] == "user":
            return self.turns[0]["content"].rstrip()
        return "\n".join(f"[{turn['role']}] {turn['content']}" for turn in self.turns).rstrip()


def holds_turns(columns: Mapping[str, Any]) -> bool:
    """Whether a row is a conversation."""
    return any(_messages(columns, name) for name in (*_NAMES, "prompt"))


def read_conversation(columns: Mapping[str, Any], *, place: str, system: str | None = None) -> Conversation:
    """The conversation of a row that `holds_turns`. One without a system turn gets the row's own column `system`, or
    else `system`.

    Raises LwfError, naming the turn, for a role that is not known, for content that is no text, and for a conversation
    in which nobody asks.
    """
    name = next(name for name in (*_NAMES, "prompt") if _messages(columns, name))
    turns = _turns(name, _messages(columns, name), place)
    if name == "prompt" and columns.get("completion") is not None:
        completion = _messages(columns, "completion")
        if not completion:
            raise LwfError(f"{place}: column 'prompt' holds messages, so 'completion' must be a list of messages too")
        turns += _turns("completion", completion, place)
    last = max((index for index, turn in enumerate(turns) if turn["role"] == ASSISTANT), default=None)
    shown, answer = (turns, None) if last is None else (turns[:last], turns[last]["content"])
    if not any(turn["role"] == "user" for turn in shown):
        raise LwfError(f"{place}: column {name!r}: no turn of the user comes before the assistant's last")
    if not shown[-1]["content"].strip():
        raise LwfError(f"{place}: column {name!r}: the turn before the answer is empty")
    if answer is not None and not answer.strip():
        raise LwfError(f"{place}: column {name!r}: the assistant's last turn is empty; it is what should be learned")
    own = columns.get("system")
    return with_system(Conversation(tuple(shown), answer), own if isinstance(own, str) and own.strip() else system)


def check_messages(columns: Mapping[str, Any], *, place: str) -> None:
    """Raise LwfError for a row that should be a conversation, by the name of a column, and is none."""
    for name in _NAMES:
        if name in columns and not _messages(columns, name):
            kind = "nothing" if columns[name] in (None, "", []) else f"a {type(columns[name]).__name__}"
            raise LwfError(
                f"{place}: column {name!r} holds {kind}; a conversation is a list of messages with `role` and `content`"
            )


def with_system(conversation: Conversation, system: str | None) -> Conversation:
    """The conversation after a system turn, if there is text for one and it has none."""
    if system is None or conversation.turns[0]["role"] in ("system", "developer"):
        return conversation
    return Conversation(({"role": "system", "content": system}, *conversation.turns), conversation.answer)


def warn_of_tools(rows: Sequence[SourceRow]) -> None:
    """Say once that calls of tools are not part of what is learned, where a row has some."""
    found = [row for row in rows if holds_turns(row.columns) and any(_tool_fields(row.columns))]
    if found:
        field = next(_tool_fields(found[0].columns))
        log.warning(
            "%s: %r is ignored, here and in %d other rows: only the texts of the messages are used",
            found[0].place,
            field,
            len(found) - 1,
        )


def _tool_fields(columns: Mapping[str, Any]) -> Iterator[str]:
    turns = [turn for name in (*_NAMES, "prompt", "completion") for turn in _messages(columns, name)]
    return (field for holder in (columns, *turns) for field in _TOOL_FIELDS if holder.get(field))


def _messages(columns: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    """The messages in a column, also where a table has them as JSON; none where it holds something else. A prompt that
    is JSON is a text like others."""
    value = columns.get(name)
    if name in _NAMES and isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except ValueError:
            return []
    if not isinstance(value, list) or not all(isinstance(turn, Mapping) for turn in value):
        return []
    return value


def _turns(name: str, messages: Sequence[Mapping[str, Any]], place: str) -> list[dict[str, str]]:
    """The turns that say something: one that does nothing but call a tool is left out."""
    turns = (_turn(message, f"{place}: {name}[{number}]") for number, message in enumerate(messages))
    return [turn for turn in turns if turn is not None]


def _turn(message: Mapping[str, Any], place: str) -> dict[str, str] | None:
    role_key, text_key = ("from", "value") if "from" in message and "role" not in message else ("role", "content")
    if role_key not in message:
        known = ", ".join(map(str, message)) or "nothing"
        raise LwfError(f"{place}: a message has `role` and `content` (or `from` and `value`); this one has: {known}")
    role = _ROLES.get(str(message[role_key]).lower())
    if role is None:
        raise LwfError(f"{place}: the {role_key} {message[role_key]!r} is not known; write {', '.join(_ROLES)}")
    content = message.get(text_key)
    if not content and any(message.get(field) for field in _TOOL_FIELDS):
        return None
    return {"role": role, "content": _text_of(content, f"{place}: {text_key!r}")}


def _text_of(content: Any, place: str) -> str:
    if isinstance(content, list) and all(isinstance(part, Mapping) for part in content):
        if other := [part.get("type") for part in content if part.get("type") != "text"]:
            raise LwfError(f"{place} has a part of type {other[0]!r}; only text can be used")
        return "".join(str(part.get("text") or "") for part in content)
    if not isinstance(content, str):
        raise LwfError(
            f"{place} {'is missing' if content is None else f'holds a {type(content).__name__}'}; it must be a text"
        )
    return content
