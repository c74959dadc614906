"""Scores a model on test rows: what it answers, whether that is right, and the NLL of the target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from lwf_assets.engine.generation import end_token_ids, generate
from lwf_assets.engine.loss import negative_log_likelihoods, sample_losses
from lwf_assets.engine.model_state import left_as_found
from lwf_assets.engine.samples import (
    TOKEN_BUDGET,
    Context,
    Sample,
    batches_by_length,
    collate,
    encode_prompt,
    encode_sample,
)
from lwf_assets.progress import SILENT, Progress
from lwf_assets.tasks.scorers import ItemScore, score

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from lwf_assets.tasks.rows import TestRow
    from lwf_assets.tasks.settings import TaskSettings


@dataclass(frozen=True)
class ItemResult:
    """One test item under one model; `target_nll` in nats per token of the target."""

    id: str
    response: str
    score: ItemScore
    target_nll: float


def evaluate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[TestRow],
    task: TaskSettings,
    *,
    context: Context,
    batch_size: int = 16,
    token_budget: int = TOKEN_BUDGET,
    progress: Progress = SILENT,
) -> list[ItemResult]:
    """Every row answered and judged: by the likeliest choice for a choice task, by greedy decoding for the others.

    Raises:
        LwfError: a prompt longer than the context, unless the study cuts it.
    """
    if task.scorer == "choice":
        responses = likeliest_choices(model, tokenizer, rows, context=context, token_budget=token_budget)
    else:
        responses = greedy_responses(
            model,
            tokenizer,
            [(row.id, row.prompt) for row in rows],
            max_new_tokens=task.max_new_tokens,
            context=context,
            batch_size=batch_size,
        )
    targets = [encode_sample(tokenizer, row.prompt, row.target, context=context, row_id=row.id) for row in rows]
    losses = negative_log_likelihoods(model, targets, token_budget=token_budget)
    progress.advance(len(rows))
    return [
        ItemResult(row.id, response, score(task.scorer, response, row), loss)
        for row, response, loss in zip(rows, responses, losses, strict=True)
    ]


def greedy_responses(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[tuple[str, str]],
    *,
    max_new_tokens: int,
    context: Context,
    batch_size: int = 16,
) -> list[str]:
    """The likeliest continuation, token by token, of each (id, prompt)."""
    encoded = [
        context.fit(encode_prompt(tokenizer, prompt), room=max_new_tokens, row_id=row_id) for row_id, prompt in prompts
    ]
    responses = generate(
        model,
        encoded,
        max_new_tokens=max_new_tokens,
        pad_id=tokenizer.pad_token_id,
        end_ids=end_token_ids(model, tokenizer.eos_token_id),
        batch_size=batch_size,
    )
    return [tokenizer.decode(response, skip_special_tokens=True) for response in responses]


@torch.no_grad()
def likeliest_choices(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[TestRow],
    *,
    context: Context,
    token_budget: int = TOKEN_BUDGET,
) -> list[str]:
    """The choice with the highest log-likelihood (summed over its tokens) after each row's prompt."""
    candidates: list[Sample] = []
    owners: list[tuple[int, str]] = []
    for index, row in enumerate(rows):
        for choice in row.choices:
            sample = encode_sample(tokenizer, row.prompt, choice, context=context, row_id=row.id)
            candidates.append(Sample(sample.prompt_ids, sample.response_ids[:-1]))  # a choice need not end the text
            owners.append((index, choice))
    best: dict[int, tuple[float, str]] = {}
    with left_as_found(model):
        for indices in batches_by_length(candidates, token_budget):
            batch = collate([candidates[i] for i in indices]).to(model.device)
            for i, loss in zip(indices, sample_losses(model, batch, reduction="sum").tolist(), strict=True):
                owner, choice = owners[i]
                best[owner] = min(best.get(owner, (loss, choice)), (loss, choice))
    return [best[index][1] for index in range(len(rows))]
