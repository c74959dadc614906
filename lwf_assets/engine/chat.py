"""Conversations, as the chat template of a tokenizer writes them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from lwf_assets.errors import LwfError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Turn = Mapping[str, str]
"""One message of a conversation: its `role` ("system", "user", "assistant", ...) and its `content`."""

Prompt = str | Sequence[Turn]
"""What a model is shown: a text as it is, or the turns of a conversation that the model is to continue."""

_TODAY = datetime(2024, 7, 26)
"""What a template is told when it asks for the date (Llama 3.2's and Granite's do): the day that Llama 3.1's template
has written into it. With the true date a sample would be another one tomorrow."""
_SOME_ANSWER = "some-answer-7f3a91"
"""A text that no conversation and no template has."""
_ASKS_FOR_TODAY = re.compile(r"strftime_now\(\s*(['\"])(.*?)\1\s*\)")


@dataclass(frozen=True)
class WrittenAnswer:
    """A conversation and its answer as text; `prompt + content + ending` is the whole of it."""

    prompt: str
    """Up to the answer, with the template's generation prompt."""
    content: str
    ending: str
    """What the template writes after an answer: its end of turn."""


def write_prompt(tokenizer: PreTrainedTokenizerBase, turns: Sequence[Turn], *, row_id: str) -> str:
    """The text of `turns` with the generation prompt, after which the model answers.

    Raises:
        LwfError: the tokenizer has no chat template, or the template refuses the turns.
    """
    return _write(tokenizer, turns, row_id=row_id, generation_prompt=True)


def write_answer(
    tokenizer: PreTrainedTokenizerBase, turns: Sequence[Turn], answer: str, *, row_id: str
) -> WrittenAnswer:
    """The text of `turns` with `answer` as the assistant's next turn.

    Where the template writes an answer of the past in another way than it begins a new one (without the thoughts that
    it asks for, say), the answer stands behind the generation prompt, as it will when the model writes it.

    Raises:
        LwfError: as `write_prompt`, and for a template that does not show the answer as it is.
    """
    prompt = write_prompt(tokenizer, turns, row_id=row_id)
    head, ending = _around_an_answer(tokenizer, turns, row_id)
    turn = {"role": "assistant", "content": answer}
    whole = _write(tokenizer, [*turns, turn], row_id=row_id, generation_prompt=False)
    end = len(whole) - len(ending)
    # Most templates take off the white space around a message.
    if not (whole.startswith(head) and whole.endswith(ending)) or whole[len(head) : end].strip() != answer.strip():
        raise LwfError(f"row {row_id!r}: the model's chat template does not show the answer {answer[:60]!r} as it is")
    start = len(prompt) if whole.startswith(prompt) and len(prompt) <= end else len(head)
    return WrittenAnswer(prompt, whole[start:end], ending)


def _around_an_answer(tokenizer: PreTrainedTokenizerBase, turns: Sequence[Turn], row_id: str) -> tuple[str, str]:
    """What stands before and after the last answer, whatever it is. (To look for the answer itself would not do: it may
    be a word of the template, such as "end".)"""
    turn = {"role": "assistant", "content": _SOME_ANSWER}
    before, found, after = _write(tokenizer, [*turns, turn], row_id=row_id, generation_prompt=False).rpartition(
        _SOME_ANSWER
    )
    if not found:
        raise LwfError(f"row {row_id!r}: the model's chat template does not show what the assistant says")
    return before, after


def turn_end_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The token that ends a turn in the tokenizer's chat template; none where the template ends it with plain text."""
    written = write_answer(tokenizer, [{"role": "user", "content": "a"}], "b", row_id="of the template")
    special = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
    ending: list[int] = tokenizer(written.ending, add_special_tokens=False)["input_ids"]
    return [token for token in ending if token in special][:1]


def shared_length(first: Sequence[object], second: Sequence[object]) -> int:
    """How many items, or characters, are the same at the beginning."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((index for index, (one, other) in pairs if one != other), min(len(first), len(second)))


def _today(asked: re.Match[str]) -> str:
    return repr(_TODAY.strftime(asked[2]))


def _write(tokenizer: PreTrainedTokenizerBase, turns: Sequence[Turn], *, row_id: str, generation_prompt: bool) -> str:
    from jinja2.exceptions import TemplateError

    if not tokenizer.chat_template:
        raise LwfError(
            f"row {row_id!r} is a conversation, but the model's tokenizer has no chat template: set "
            "model.chat_template to a file that holds one (Jinja, as on the model's page or that of its instruct "
            "version), or write the task's `prompt` and `target` as texts, with `chat: false`"
        )
    try:
        text = tokenizer.apply_chat_template(
            [dict(turn) for turn in turns],
            chat_template=_ASKS_FOR_TODAY.sub(_today, tokenizer.get_chat_template()),
            tokenize=False,
            add_generation_prompt=generation_prompt,
        )
    except (TemplateError, TypeError, ValueError) as error:
        roles = ", ".join(turn["role"] for turn in turns)
        raise LwfError(f"row {row_id!r}: the model's chat template refuses the turns ({roles}): {error}") from error
    assert isinstance(text, str)
    return text
