"""A response to each of many prompts: sorted by length, in batches, saved as they come."""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from lwf_assets.disk.sums import unsealed, with_seal
from lwf_assets.engine.generation.decoding import Decoder, Decoding, Sampling, best_decoding
from lwf_assets.engine.generation.draws import numbers_of
from lwf_assets.progress import SILENT, Progress

if TYPE_CHECKING:
    from transformers import PreTrainedModel

log = logging.getLogger(__name__)

BatchSize = int | Callable[[int], int]
"""Rows at once: a number, or what finds it from the tokens of the longest prompt and response together."""
Answer = Callable[[Sequence[int]], list[list[int]]]
"""The responses to the prompts of these indices."""


def generate(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    pad_id: int,
    end_ids: Sequence[int],
    temperature: float | None = None,
    top_p: float = 1.0,
    batch_size: BatchSize = 16,
    seed: int = 0,
    decoding: Decoding | None = None,
    shards: Path | None = None,
    progress: Progress = SILENT,
) -> list[list[int]]:
    """A response to each of `prompts`, as token ids, with its end token where it came to an end.

    A response follows from the seed, the prompt and how often the same prompt stands earlier in the list. It does not
    depend on the other prompts, on their order or on the size of a batch, but for logits that differ in their last bits
    (see `draws`). Responses are written to `shards` as soon as they are there, so that a killed run goes on where it
    stopped, also with batches of another size.

    Args:
        model: a causal language model in eval mode.
        prompts: token ids, none empty.
        max_new_tokens: longest response.
        pad_id: fills short rows.
        end_ids: tokens that end a response.
        temperature: None for greedy decoding; 1.0 samples the model's own distribution.
        top_p: nucleus, when sampling.
        batch_size: prompts per batch, or what finds it from the longest; halved once, for good, if a batch does not fit
            into the memory of the device.
        seed: of the draws.
        decoding: how the model is called step by step; None for the fastest (`decoding.best_decoding`).
        shards: folder for the batches' responses.
        progress: notified of every response.
    """
    sampling = Sampling(max_new_tokens, end_ids, temperature, top_p, seed)
    numbers, longest = numbers_of(prompts), max(map(len, prompts), default=0)
    rows = batch_size if isinstance(batch_size, int) else batch_size(longest + max_new_tokens)
    steps = math.ceil(len(prompts) / rows) * max_new_tokens
    decoding = decoding or best_decoding(model, steps)
    decoder = Decoder(model, sampling, pad_id=pad_id, decoding=decoding, rows=min(rows, len(prompts)), longest=longest)

    def answer(indices: Sequence[int]) -> list[list[int]]:
        return decoder.answer([prompts[i] for i in indices], [numbers[i] for i in indices])

    return answer_all(prompts, answer, batch_size=rows, shards=shards, progress=progress)


def answer_all(
    prompts: Sequence[Sequence[int]], answer: Answer, *, batch_size: int, shards: Path | None, progress: Progress
) -> list[list[int]]:
    """What `answer` gives for all prompts, `batch_size` at a time, longest first."""
    responses = {} if shards is None else _saved(shards)
    if responses:
        progress.advance(len(responses))
    order = sorted(set(range(len(prompts))) - responses.keys(), key=lambda index: (-len(prompts[index]), index))
    halved = False
    while order:
        indices = order[:batch_size]
        try:
            found = dict(zip(indices, answer(indices), strict=True))
        except torch.OutOfMemoryError as error:
            if halved or len(indices) == 1:
                raise torch.OutOfMemoryError(_does_not_fit(len(indices), error)) from error
            found = {}
        if not found:  # outside of the handler, where the failed batch's tensors are no longer held
            halved, batch_size = True, len(indices) // 2
            log.warning(
                "%d prompts at once do not fit into the device's memory; going on with %d", len(indices), batch_size
            )
            if torch.accelerator.is_available():
                torch.accelerator.empty_cache()
            continue
        if shards is not None:
            _save(shards / f"shard-{indices[0]:06d}.json", found)
        responses |= found
        del order[: len(indices)]
        progress.advance(len(indices))
    return [responses[index] for index in range(len(prompts))]


def _does_not_fit(rows: int, error: Exception) -> str:
    return (
        f"a batch of {rows} does not fit into the device's memory; set a smaller generation.batch_size (for answers of "
        f"the evaluation, evaluation.batch_size) or max_new_tokens. {error}"
    )


def _saved(shards: Path) -> dict[int, list[int]]:
    """The responses of an earlier run by index; a damaged shard's are not among them."""
    texts = [unsealed(shard) for shard in sorted(shards.glob("shard-*.json"))]
    return {index: response for text in texts if text is not None for index, response in json.loads(text)}


def _save(shard: Path, found: dict[int, list[int]]) -> None:
    unfinished = shard.with_suffix(".unfinished")
    unfinished.write_text(with_seal(json.dumps(list(found.items()))))
    os.replace(unfinished, shard)
