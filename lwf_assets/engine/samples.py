"""Samples: what is learned, scored and unlearned, as token ids; and their batches."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lwf_assets.engine.activation_memory import TOKEN_BUDGET
from lwf_assets.engine.chat import Prompt, shared_length, write_answer, write_prompt
from lwf_assets.errors import LwfError

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

IGNORED = -100
"""Label of a position without loss, as transformers has it."""


@dataclass(frozen=True)
class Sample:
    """One training or scoring sample. Loss is on the response tokens alone."""

    prompt_ids: list[int]
    response_ids: list[int]

    def __post_init__(self) -> None:
        if not self.response_ids:
            raise ValueError("a sample needs at least one response token: without one it has no loss")
        if len(self) == 1:
            raise ValueError("a sample of one token has no loss: nothing stands before it to predict it from")

    def __len__(self) -> int:
        return len(self.prompt_ids) + len(self.response_ids)


@dataclass(frozen=True)
class Batch:
    """Right-padded rows. All tensors are [batch, longest row], of int64."""

    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device."""
        return Batch(self.input_ids.to(device), self.attention_mask.to(device), self.labels.to(device))


def collate(samples: Sequence[Sample], *, pad_id: int = 0, length: int | None = None) -> Batch:
    """One row per sample, padded on the right to `length` or to the longest; padding and prompt carry no loss."""
    length = length or max(len(sample) for sample in samples)
    input_ids = torch.full((len(samples), length), pad_id, dtype=torch.long)
    attention_mask = torch.zeros_like(input_ids)
    labels = torch.full_like(input_ids, IGNORED)
    for row, sample in enumerate(samples):
        input_ids[row, : len(sample)] = torch.tensor(sample.prompt_ids + sample.response_ids)
        attention_mask[row, : len(sample)] = 1
        labels[row, len(sample.prompt_ids) : len(sample)] = torch.tensor(sample.response_ids)
    return Batch(input_ids, attention_mask, labels)


def batches_by_length(
    samples: Sequence[Sample],
    token_budget: int = TOKEN_BUDGET,
    batch_size: int | None = None,
    *,
    equal: bool = False,
) -> Iterator[list[int]]:
    """Indices of samples of like length, longest first: the batch that needs most memory comes first, so it is known
    early whether it fits.

    A batch has at most `token_budget` tokens, padding included (a longer sample is a batch of its own), at most
    `batch_size` samples, and none shorter than half of its longest; or, if they are to be `equal`, all as long.
    """
    batch: list[int] = []
    for index in sorted(range(len(samples)), key=lambda index: (-len(samples[index]), index)):
        if batch:
            longest = len(samples[batch[0]])
            full = (len(batch) + 1) * longest > token_budget or len(batch) == batch_size
            length = len(samples[index])
            if full or 2 * length < longest or (equal and length < longest):
                yield batch
                batch = []
        batch.append(index)
    if batch:
        yield batch


def count_predicting_positions(samples: Sequence[Sample]) -> int:
    """Positions of their batch from which some sample's response is predicted: those where logits are formed."""
    return len({p for s in samples for p in range(max(len(s.prompt_ids) - 1, 0), len(s) - 1)})


@dataclass(frozen=True)
class Context:
    """How many tokens a row may have, and what happens to a prompt that is too long."""

    max_length: int
    truncate_prompts: bool = False

    @classmethod
    def of_model(cls, model: PreTrainedModel, *, max_length: int | None, truncate_prompts: bool) -> Context:
        """The model's own context, or the study's where that is shorter.

        Raises:
            LwfError: the study asks for more than the model has.
        """
        return cls.of_config(model.config, max_length=max_length, truncate_prompts=truncate_prompts)

    @classmethod
    def of_config(cls, config: PretrainedConfig, *, max_length: int | None, truncate_prompts: bool) -> Context:
        """As `of_model`, by the model's configuration alone."""
        own = getattr(config.get_text_config(), "max_position_embeddings", None)
        if max_length is not None and own is not None and max_length > own:
            raise LwfError(f"model.max_length: {max_length} is more than the model's context of {own} tokens")
        return cls(max_length or own or 2**31, truncate_prompts)

    def fit(self, prompt_ids: list[int], *, room: int, row_id: str) -> list[int]:
        """`prompt_ids`, cut from the left if need be and allowed, so that `room` more tokens fit behind them.

        Raises:
            LwfError: the prompt is too long and the study does not allow cutting it.
        """
        keep = self.max_length - room
        if len(prompt_ids) <= keep:
            return prompt_ids
        if not self.truncate_prompts or keep < 1:
            raise LwfError(
                f"row {row_id!r}: its prompt has {len(prompt_ids)} tokens and {room} more must follow, but the context "
                f"is {self.max_length}; shorten the prompt, raise model.max_length, or set model.truncate_prompts: true"
            )
        return prompt_ids[-keep:]


def encode_prompt(tokenizer: PreTrainedTokenizerBase, prompt: Prompt, *, row_id: str = "") -> list[int]:
    """Token ids of a prompt that is to be continued.

    A text gets the special tokens that the tokenizer puts in front of one, unless it brings them itself: there is
    never more than one beginning of text. What the tokenizer puts behind a text is left out, for the text goes on. A
    conversation is what the chat template makes of it.

    Raises:
        LwfError: a conversation, and no chat template that would take it.
    """
    if isinstance(prompt, str):
        return _beginning_once(tokenizer, prompt)
    return _plain_ids(tokenizer, write_prompt(tokenizer, prompt, row_id=row_id))


def encode_sample(
    tokenizer: PreTrainedTokenizerBase, prompt: Prompt, target: str, *, context: Context, row_id: str
) -> Sample:
    """The sample that teaches `target` after `prompt`.

    After a text: joined by one space, ended by the end-of-sequence token. After a conversation: as the assistant's turn
    with the chat template's own end of turn. Prompt and target are tokenized together and split where the prompt alone
    ends, as lm-evaluation-harness does it, so that the target's tokens are those that the model would generate.

    Raises:
        LwfError: a prompt that is too long, or a conversation that the chat template does not take.
    """
    prompt_ids, content_ids, end_ids = _encode_parts(tokenizer, prompt, target, row_id=row_id)
    response_ids = content_ids + end_ids
    return Sample(context.fit(prompt_ids, room=len(response_ids), row_id=row_id), response_ids)


def encode_choice(
    tokenizer: PreTrainedTokenizerBase, prompt: Prompt, choice: str, *, context: Context, row_id: str
) -> Sample:
    """As `encode_sample`, without an end: a choice need not end the text. The prompt is cut as for the whole sample."""
    prompt_ids, content_ids, end_ids = _encode_parts(tokenizer, prompt, choice, row_id=row_id)
    room = len(content_ids) + len(end_ids)
    return Sample(context.fit(prompt_ids, room=room, row_id=row_id), content_ids)


def _encode_parts(
    tokenizer: PreTrainedTokenizerBase, prompt: Prompt, target: str, *, row_id: str
) -> tuple[list[int], list[int], list[int]]:
    """Token ids of the prompt, of the target and of what ends it."""
    if isinstance(prompt, str):
        prompt_ids = encode_prompt(tokenizer, prompt)
        whole = encode_prompt(tokenizer, f"{prompt} {target}")
        return whole[: len(prompt_ids)], whole[len(prompt_ids) :], [tokenizer.eos_token_id]
    written = write_answer(tokenizer, prompt, target, row_id=row_id)
    prompt_ids = _plain_ids(tokenizer, written.prompt)
    whole = _plain_ids(tokenizer, written.prompt + written.content + written.ending)
    if not written.ending.strip():  # or an answer would have no end
        whole.append(tokenizer.eos_token_id)
    start = shared_length(prompt_ids, whole)
    end = max(shared_length(_plain_ids(tokenizer, written.prompt + written.content), whole), start + 1)
    return whole[:start], whole[start:end], whole[end:]


def _beginning_once(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    plain, whole = _plain_ids(tokenizer, text), list(tokenizer(text)["input_ids"])
    if not plain:
        return whole
    starts = range(len(whole) - len(plain) + 1)
    start = next((start for start in starts if whole[start : start + len(plain)] == plain), None)
    if start is None:  # the tokenizer changes the text where it adds to it
        return whole
    added = whole[:start]
    if added and tokenizer.bos_token is not None and text.lstrip().startswith(tokenizer.bos_token):
        plain = _plain_ids(tokenizer, text.lstrip())
        while plain[1:2] == [tokenizer.bos_token_id]:
            del plain[0]
    brought = max(n for n in range(len(added) + 1) if added[len(added) - n :] == plain[:n])
    return added[: len(added) - brought] + plain


def _plain_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def seeded_batch(count: int, batch_size: int, number: int, seed: int | str) -> list[int]:
    """Indices, below `count`, of the `number`-th batch (the first is 0).

    A seeded shuffle of all samples is dealt out in full batches, then the next shuffle, so that no sample has a second
    turn before nearly all have had their first. A batch is never larger than `count`.
    """
    batches = max(1, count // batch_size)
    shuffle, batch = divmod(number, batches)
    order = random.Random(f"{seed}/{shuffle}").sample(range(count), count)
    return order[batch * batch_size : (batch + 1) * batch_size]
