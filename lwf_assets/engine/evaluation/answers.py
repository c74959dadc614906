"""What a model answers: by greedy decoding, or by the likeliest of given choices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from lwf_assets.engine import processes
from lwf_assets.engine.chat import Prompt
from lwf_assets.engine.generation import BatchSize, response_end_ids, response_text
from lwf_assets.engine.loss import sample_losses
from lwf_assets.engine.model_state import left_as_found
from lwf_assets.engine.row_separation import check_row_separation
from lwf_assets.engine.samples import (
    Context,
    Sample,
    batches_by_length,
    collate,
    encode_choice,
    encode_prompt,
)
from lwf_assets.engine.shared_generation import generate_together
from lwf_assets.engine.token_budget import TokenBudget, out_of_memory_named, tokens_that_fit

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def greedy_responses(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[tuple[str, Prompt]],
    *,
    max_new_tokens: int,
    context: Context,
    batch_size: BatchSize = 16,
) -> list[str]:
    """The likeliest continuation, token by token, of each (id, prompt)."""
    encoded = [
        context.fit(encode_prompt(tokenizer, prompt, row_id=row_id), room=max_new_tokens, row_id=row_id)
        for row_id, prompt in prompts
    ]
    end_ids = response_end_ids(model, tokenizer, [prompt for _, prompt in prompts])
    responses = generate_together(
        model,
        encoded,
        max_new_tokens=max_new_tokens,
        pad_id=tokenizer.pad_token_id,
        end_ids=end_ids,
        batch_size=batch_size,
    )
    return [response_text(tokenizer, response, end_ids) for response in responses]


@out_of_memory_named()
@torch.no_grad()
def likeliest_choices(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[tuple[str, Prompt]],
    choices: Sequence[Sequence[str]],
    *,
    context: Context,
    token_budget: TokenBudget = "auto",
) -> list[str]:
    """The choice with the highest log-likelihood (summed over its tokens) after each (id, prompt).

    `choices[i]` are the texts to choose between after `prompts[i]`.
    """
    candidates: list[Sample] = []
    owners: list[tuple[int, str]] = []
    for index, ((row_id, prompt), texts) in enumerate(zip(prompts, choices, strict=True)):
        for choice in texts:
            candidates.append(encode_choice(tokenizer, prompt, choice, context=context, row_id=row_id))
            owners.append((index, choice))
    check_row_separation(model, candidates)
    together = processes.here()
    mine = together.share(candidates)
    losses, budget = [0.0] * len(mine), tokens_that_fit(model, token_budget, differentiated=False)
    with left_as_found(model):
        for places in batches_by_length([candidates[index] for index in mine], budget):
            batch = collate([candidates[mine[place]] for place in places]).to(model.device)
            for place, loss in zip(places, sample_losses(model, batch, reduction="sum").tolist(), strict=True):
                losses[place] = loss
    best: dict[int, tuple[float, str]] = {}
    for (owner, choice), loss in zip(owners, together.gather(mine, losses), strict=True):
        best[owner] = min(best.get(owner, (loss, choice)), (loss, choice))
    return [best[index][1] for index in range(len(prompts))]
