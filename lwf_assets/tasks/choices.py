"""Choices that each row brings itself: a list of texts, or a mapping of letter to text."""

from __future__ import annotations

from collections.abc import Mapping
from string import ascii_uppercase
from typing import Any

from lwf_assets.errors import LwfError

Choice = str | int | float
"""A text or number, as it is in the row."""


def row_choices(column: str, value: Any, *, place: str) -> dict[str, Choice]:
    """The texts to choose between by their letters, in the row's order; a list gets the letters A, B, ...

    `value` is what `column` holds: a list of texts or numbers, a mapping of letter to text (a letter without a text is
    left out, as tables have it), or the lists `label` and `text` beside each other. Raises LwfError unless there are
    two or more different texts, none of them blank.
    """
    if isinstance(value, Mapping) and isinstance(value.get("label"), list) and isinstance(value.get("text"), list):
        pairs = list(zip(value["label"], value["text"], strict=False))
    elif isinstance(value, Mapping):
        pairs = [(letter, text) for letter, text in value.items() if text is not None]
    elif isinstance(value, list):
        pairs = list(zip(ascii_uppercase, value, strict=False))
        if len(value) > len(pairs):
            raise LwfError(f"{place}: column {column!r} has {len(value)} choices; at most {len(pairs)} can be lettered")
    else:
        kind = "nothing" if value is None else f"a {type(value).__name__}"
        raise LwfError(f"{place}: column {column!r} holds {kind}; choices are a list, or a mapping of letter to text")
    if not all(isinstance(text, Choice) for _, text in pairs):
        raise LwfError(f"{place}: column {column!r}: every choice must be a text or a number")
    found = {str(letter): text.strip() if isinstance(text, str) else text for letter, text in pairs}
    texts = list(map(str, found.values()))
    if len(texts) < 2 or "" in texts or len(set(texts)) < len(texts):
        raise LwfError(f"{place}: column {column!r} needs two or more different choices, none blank; it has {texts}")
    return found


def chosen(answer: Any, choices: Mapping[str, Choice], *, place: str, role: str) -> str:
    """The text of the choice that `answer` means.

    A text is the text of a choice, or else its letter, or else its position, counted from 0. A whole number is one of
    the choices where these are numbers, or else a position, or else a text. Raises LwfError when it is none of these,
    and for a number that could be a position or a text.
    """
    texts, text = list(map(str, choices.values())), str(answer).strip()
    if isinstance(answer, int) and not isinstance(answer, bool):
        for choice in choices.values():
            if not isinstance(choice, str) and choice == answer:
                return str(choice)
        if 0 <= answer < len(texts):
            if text in texts and texts[answer] != text:
                raise LwfError(
                    f"{place}: the {role} {text} is the text of one choice and the position of another, of {texts}; "
                    f'write the text as "{text}" or the letter'
                )
            return texts[answer]
    if text in texts:
        return text
    if text in choices:
        return str(choices[text])
    if text.isdecimal() and int(text) < len(texts):
        return texts[int(text)]
    shown = ", ".join(f"{letter}: {value}" for letter, value in choices.items())
    raise LwfError(f"{place}: the {role} {text!r} is no text, letter or position (from 0) of the choices {shown}")


def lettered(choices: Mapping[str, Choice]) -> str:
    """As a prompt shows them: a line for each."""
    return "\n".join(f"{letter}. {text}" for letter, text in choices.items())
