"""What a model answers: by greedy decoding, or by the likeliest of given choices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from lwf_assets.engine import processes
from lwf_assets.engine.chat import Prompt
from lwf_assets.engine.generation import response_end_ids, response_text
from lwf_assets.engine.loss import sample_losses
from lwf_assets.engine.model_state import left_as_found
from lwf_assets.engine.samples import (
    TOKEN_BUDGET,
    Context,
    Sample,
    batches_by_length,
    collate,
    encode_choice,
    encode_prompt,
)
from lwf_assets.engine.shared_generation import generate_together

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def greedy_responses(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[tuple[str, Prompt]],
    *,
    max_new_tokens: int,
    context: Context,
    batch_size: int = 16,
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


@torch.no_grad()
def likeliest_choices(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[tuple[str, Prompt]],
    choices: Sequence[Sequence[str]],
    *,
    context: Context,
    token_budget: int = TOKEN_BUDGET,
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
    together = processes.here()
    mine = together.share(candidates)
    losses = [0.0] * len(mine)
    with left_as_found(model):
        for places in batches_by_length([candidates[index] for index in mine], token_budget):
            batch = collate([candidates[mine[place]] for place in places]).to(model.device)
            for place, loss in zip(places, sample_losses(model, batch, reduction="sum").tolist(), strict=True):
                losses[place] = loss
    best: dict[int, tuple[float, str]] = {}
    for (owner, choice), loss in zip(owners, together.gather(mine, losses), strict=True):
        best[owner] = min(best.get(owner, (loss, choice)), (loss, choice))
    return [best[index][1] for index in range(len(prompts))]
