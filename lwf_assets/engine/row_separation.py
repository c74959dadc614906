"""Whether a model's rows of a batch have nothing to do with one another, padding included.

Most causal models need no attention mask for rows that are padded on the right. Some look ahead and ignore the mask
(CPM-Ant), some mix the rows of a batch (Doge's experts): in a batch they give other values than for one sample, without
a word. So one padded row is compared with the same row alone, once for each model.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from enum import Enum
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from lwf_assets.engine.model_state import in_evaluation_mode
from lwf_assets.engine.samples import Sample, collate

if TYPE_CHECKING:
    from transformers import PreTrainedModel

log = logging.getLogger(__name__)

TOLERANCE = {torch.float64: 1e-3, torch.float32: 1e-3}
"""How far the probabilities of the next token may be apart (sum of the differences) between a row in a batch and the
same row alone, by type of the weights."""

TOLERANCE_OF_HALF = 0.1
"""The same for 16-bit weights."""


class RowSeparation(Enum):
    """What a batch may have for its rows to give what they give alone."""

    ANY = "rows of any lengths"
    EQUAL = "rows of equal length"
    NONE = "a single row"


_FOUND: WeakKeyDictionary[nn.Module, RowSeparation] = WeakKeyDictionary()


def row_separation(model: nn.Module) -> RowSeparation:
    """What was found for this model; a model that was not checked is taken for one that separates its rows."""
    return _FOUND.get(getattr(model, "module", model), RowSeparation.ANY)


def check_row_separation(model: PreTrainedModel, samples: Sequence[Sample]) -> RowSeparation:
    """Compare rows of a batch with the same rows alone, with some tokens of `samples`; once for each model, by a few
    short forward passes. Where they differ, one line is logged, and losses are computed as the result allows from then
    on."""
    longest = max(map(len, samples), default=0)
    length = max(2, min(32, max(longest - 8, longest // 2)))  # and a longer row fits into the context too
    row = _tokens(max(samples, key=len))[:length] if samples else []
    others = [tokens for tokens in map(_tokens, samples) if tokens[: len(row)] != row]
    if model not in _FOUND and others:
        short = min(others, key=len)[:12]
        longer = _stretched(max(others, key=len), min(longest, length + 8))
        with in_evaluation_mode(model):  # and gradients as they are: a model may want them in its forward pass
            alone = _probabilities(model, [row]) + _probabilities(model, [short])
            if _same(model, _probabilities(model, [row, short, longer])[:2], alone):
                _FOUND[model] = RowSeparation.ANY
            elif _same(model, _probabilities(model, [row, longer[: len(row)]])[:1], alone[:1]):
                _FOUND[model] = RowSeparation.EQUAL
            else:
                _FOUND[model] = RowSeparation.NONE
        if _FOUND[model] is not RowSeparation.ANY:
            log.warning(
                "%s: a row of a padded batch gives other values than the same row alone, because the model ignores "
                "the attention mask or mixes the rows of a batch. Its batches have %s from here on, which is exact and "
                "slower",
                type(model).__name__,
                _FOUND[model].value,
            )
    return row_separation(model)


def _tokens(sample: Sample) -> list[int]:
    return sample.prompt_ids + sample.response_ids


def _stretched(tokens: list[int], length: int) -> list[int]:
    """The first `length` of the tokens, which are repeated if they are fewer."""
    return (tokens * (length // len(tokens) + 1))[:length]


def _probabilities(model: PreTrainedModel, rows: Sequence[list[int]]) -> list[Tensor]:
    """Of each row the probabilities of all tokens at each of its positions, [length, vocabulary]."""
    batch = collate([Sample(row[:1], row[1:]) for row in rows]).to(model.device)
    inputs: dict[str, Any] = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask, "use_cache": False}
    probabilities = model(**inputs).logits.detach().double().softmax(dim=-1)
    return [of_row[: len(row)] for of_row, row in zip(probabilities, rows, strict=True)]


def _same(model: PreTrainedModel, first: Sequence[Tensor], second: Sequence[Tensor]) -> bool:
    tolerance = TOLERANCE.get(next(model.parameters()).dtype, TOLERANCE_OF_HALF)
    return all(
        bool((one - other).abs().sum(dim=-1).max() <= tolerance) for one, other in zip(first, second, strict=True)
    )
