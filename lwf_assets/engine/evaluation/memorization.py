"""How well a model knows a text: how likely it is, and how much of it would be said word for word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from lwf_assets.engine import processes
from lwf_assets.engine.loss import response_logits
from lwf_assets.engine.model_state import in_evaluation_mode
from lwf_assets.engine.row_separation import check_row_separation
from lwf_assets.engine.samples import Sample, batches_by_length, collate
from lwf_assets.engine.token_budget import TokenBudget, out_of_memory_named, tokens_that_fit

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Memorisation:
    """What a model knows of one sample's response."""

    nll: float
    """Mean negative log-likelihood per response token, in nats."""
    memorised: float
    """The share of response tokens that are the likeliest after the true tokens before them: exact memorization, as
    Tirumala et al., "Memorization Without Overfitting" (2022), define it."""


@out_of_memory_named()
@torch.no_grad()
def memorisation(
    model: PreTrainedModel, samples: Sequence[Sample], *, token_budget: TokenBudget = "auto"
) -> list[Memorisation]:
    """What `model` knows of each sample, in the order of `samples`, by one forward pass.

    Samples that are alike, such as those of a forgetting task and of the mixed one, are evaluated once.
    """
    keys = [(tuple(sample.prompt_ids), tuple(sample.response_ids)) for sample in samples]
    different = dict(zip(keys, samples, strict=True))
    known = dict(zip(different, _of_different(model, list(different.values()), token_budget), strict=True))
    return [known[key] for key in keys]


def _of_different(model: PreTrainedModel, samples: Sequence[Sample], token_budget: TokenBudget) -> list[Memorisation]:
    together = processes.here()
    mine = together.share(samples)
    found: dict[int, Memorisation] = {}
    check_row_separation(model, samples)
    with in_evaluation_mode(model):
        budget = tokens_that_fit(model, token_budget, differentiated=False)
        for places in batches_by_length([samples[index] for index in mine], budget):
            batch = collate([samples[mine[place]] for place in places]).to(model.device)
            logits, tokens, counted = response_logits(model, batch)
            figures = torch.zeros((2, *counted.shape), dtype=torch.float64, device=tokens.device)
            figures[0, counted] = functional.cross_entropy(logits, tokens, reduction="none").double()
            figures[1, counted] = (logits.argmax(dim=-1) == tokens).double()
            means = (figures.sum(dim=2) / counted.sum(dim=1)).T.tolist()
            found |= {place: Memorisation(*mean) for place, mean in zip(places, means, strict=True)}
    return together.gather(mine, [found[place] for place in range(len(mine))])
