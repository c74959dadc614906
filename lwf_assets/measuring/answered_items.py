"""Scores a model on test rows: what it answers, whether that is right, and the NLL of the target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lwf_assets.engine.evaluation.answers import greedy_responses, likeliest_choices
from lwf_assets.engine.generation import BatchSize
from lwf_assets.engine.loss import negative_log_likelihoods
from lwf_assets.engine.samples import Context, encode_sample
from lwf_assets.engine.token_budget import TokenBudget
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
    batch_size: BatchSize = 16,
    token_budget: TokenBudget = "auto",
    progress: Progress = SILENT,
) -> list[ItemResult]:
    """Every row answered and judged: by the likeliest choice for a choice task, by greedy decoding for the others.

    Raises:
        LwfError: a prompt longer than the context, unless the study cuts it.
    """
    prompts = [(row.id, row.shown) for row in rows]
    if task.scorer == "choice":
        choices = [row.choices for row in rows]
        responses = likeliest_choices(model, tokenizer, prompts, choices, context=context, token_budget=token_budget)
    else:
        responses = greedy_responses(
            model,
            tokenizer,
            prompts,
            max_new_tokens=task.max_new_tokens,
            context=context,
            batch_size=batch_size,
        )
    targets = [encode_sample(tokenizer, row.shown, row.target, context=context, row_id=row.id) for row in rows]
    losses = negative_log_likelihoods(model, targets, token_budget=token_budget)
    progress.advance(len(rows))
    return [
        ItemResult(row.id, response, score(task.scorer, response, row), loss)
        for row, response, loss in zip(rows, responses, losses, strict=True)
    ]
