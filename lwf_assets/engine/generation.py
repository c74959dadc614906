"""Batched generation: sorted by length, padded on the left, saved shard by shard."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from lwf_assets.disk.sums import unsealed, with_seal
from lwf_assets.engine.chat import Prompt, turn_end_ids
from lwf_assets.progress import SILENT, Progress

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def generate(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    pad_id: int,
    end_ids: Sequence[int],
    temperature: float | None = None,
    top_p: float = 1.0,
    batch_size: int = 16,
    seed: int = 0,
    shards: Path | None = None,
    progress: Progress = SILENT,
) -> list[list[int]]:
    """A response to each of `prompts`, as token ids, with its end token where it came to an end.

    Prompts of like length share a batch, longest first. Each batch's draws follow from (`seed`, batch) alone and its
    responses are written to `shards` as soon as they are there, so that a killed run goes on where it stopped and ends
    with the same responses.

    Args:
        model: a causal language model in eval mode.
        prompts: token ids, none empty.
        max_new_tokens: longest response.
        pad_id: fills short rows.
        end_ids: tokens that end a response.
        temperature: None for greedy decoding; 1.0 samples the model's own distribution.
        top_p: nucleus, when sampling.
        batch_size: prompts per batch.
        seed: of the draws.
        shards: folder for the batches' responses.
        progress: notified of every response.
    """
    order = sorted(range(len(prompts)), key=lambda index: (-len(prompts[index]), index))
    responses: list[list[int]] = [[] for _ in prompts]
    for number, start in enumerate(range(0, len(order), batch_size)):
        indices = order[start : start + batch_size]
        shard = shards / f"shard-{number:05d}.json" if shards is not None else None
        written = unsealed(shard) if shard is not None else None
        if written is not None:
            batch_responses = json.loads(written)
        else:
            with torch.random.fork_rng():
                torch.manual_seed(seed * 1_000_003 + number)
                batch_responses = _generate_batch(
                    model, [prompts[i] for i in indices], max_new_tokens, pad_id, end_ids, temperature, top_p
                )
            if shard is not None:
                unfinished = shard.with_suffix(".unfinished")
                unfinished.write_text(with_seal(json.dumps(batch_responses)))
                os.replace(unfinished, shard)
        for index, response in zip(indices, batch_responses, strict=True):
            responses[index] = response
        progress.advance(len(indices))
    return responses


@torch.no_grad()
def _generate_batch(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    pad_id: int,
    end_ids: Sequence[int],
    temperature: float | None,
    top_p: float,
) -> list[list[int]]:
    from transformers import GenerationConfig

    longest = max(len(prompt) for prompt in prompts)
    input_ids = torch.tensor([[pad_id] * (longest - len(prompt)) + list(prompt) for prompt in prompts])
    attention_mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    # top_k is 50 by default, which is not the model's own distribution.
    sampling = {"do_sample": True, "temperature": temperature, "top_p": top_p, "top_k": 0} if temperature else {}
    config = GenerationConfig(
        max_new_tokens=max_new_tokens,
        pad_token_id=pad_id,
        eos_token_id=list(end_ids),
        **({"do_sample": False} | sampling),
    )
    # What `config` leaves open, transformers takes from the settings published with the model: repetition penalties and
    # the like, which are not its own distribution either.
    published, model.generation_config = model.generation_config, GenerationConfig()
    try:
        output = model.generate(
            input_ids=input_ids.to(model.device),
            attention_mask=attention_mask.to(model.device),
            generation_config=config,
        )
    finally:
        model.generation_config = published
    return [_up_to_end(row, end_ids) for row in output[:, longest:].tolist()]


def _up_to_end(tokens: list[int], end_ids: Sequence[int]) -> list[int]:
    for position, token in enumerate(tokens):
        if token in end_ids:
            return tokens[: position + 1]
    return tokens


def end_token_ids(model: PreTrainedModel, tokenizer_end: int) -> list[int]:
    """Every token that ends a response for this model: its generation config's, and the tokenizer's."""
    configured = model.generation_config.eos_token_id if model.generation_config is not None else None
    several = configured if isinstance(configured, list) else [configured]
    return sorted({token for token in (*several, tokenizer_end) if token is not None})


def response_end_ids(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Prompt]
) -> list[int]:
    """Every token that ends a response to `prompts`: `end_token_ids`, and where one of them is a conversation also the
    end of a turn in the chat template."""
    ends = end_token_ids(model, tokenizer.eos_token_id)
    is_chat = any(not isinstance(prompt, str) for prompt in prompts)
    return sorted({*ends, *(turn_end_ids(tokenizer) if is_chat else ())})


def response_text(tokenizer: PreTrainedTokenizerBase, response: Sequence[int], end_ids: Sequence[int]) -> str:
    """What a response says: without its end, which not every tokenizer counts as a special token."""
    tokens = response[:-1] if response and response[-1] in end_ids else response
    return str(tokenizer.decode(tokens, skip_special_tokens=True))
