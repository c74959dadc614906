"""One step along the averaged gradient: the cheapest way to approximate a task's optimum."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from lwf_assets.engine import processes
from lwf_assets.engine.loss import sample_losses
from lwf_assets.engine.row_separation import check_row_separation
from lwf_assets.engine.samples import Sample, batches_by_length, collate
from lwf_assets.engine.token_budget import TokenBudget, out_of_memory_named, tokens_that_fit

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@out_of_memory_named()
def step_along_mean_gradient(
    model: PreTrainedModel, samples: Sequence[Sample], *, length: float, token_budget: TokenBudget
) -> None:
    """Move the weights by -length * (gradient of the mean sample loss), in place."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    check_row_separation(model, samples)
    mean = [torch.zeros_like(parameter) for parameter in parameters]
    together = processes.here()
    mine = [samples[index] for index in together.share(samples)]
    for indices in batches_by_length(mine, tokens_that_fit(model, token_budget, differentiated=True)):
        loss = sample_losses(model, collate([mine[index] for index in indices]).to(model.device)).sum()
        for total, gradient in zip(
            mean, torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True), strict=True
        ):
            total.add_(gradient, alpha=1 / len(samples))
    together.add_up(mean)
    with torch.no_grad():
        for parameter, gradient in zip(parameters, mean, strict=True):
            parameter.sub_(gradient, alpha=length)
