"""What is left of forgotten samples: how fast they are learned again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from lwf_assets.engine.loss import negative_log_likelihoods, sample_losses
from lwf_assets.engine.model_state import in_evaluation_mode
from lwf_assets.engine.samples import Sample, collate, seeded_batch
from lwf_assets.engine.token_budget import TokenBudget

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def relearning_curve(
    model: PreTrainedModel,
    samples: Sequence[Sample],
    *,
    steps: int,
    learning_rate: float,
    batch_size: int,
    seed: int,
    pad_id: int = 0,
    token_budget: TokenBudget = "auto",
) -> list[float]:
    """How fast `model` takes up `samples` again: knowledge that was only hidden comes back in few steps.

    Plain AdamW at a constant rate and without weight decay, on seeded batches of the samples; a step's loss is the mean
    over its samples of the NLL per response token, without dropout. The model is changed: hand in one to throw away.

    Returns:
        The mean over all samples of the NLL per response token, in nats, before the first step and after each:
        `steps` + 1 figures.

    Raises:
        ValueError: no samples, nothing trainable, or steps, a batch size or a rate that mean nothing.
    """
    if not samples:
        raise ValueError("there is nothing to learn again: samples is empty")
    if steps < 0 or batch_size < 1 or not learning_rate > 0:
        raise ValueError("steps must be at least 0, batch_size at least 1 and learning_rate positive")
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trainable:
        raise ValueError("the model cannot learn: none of its parameters is trainable")
    optimizer = torch.optim.AdamW(trainable, lr=learning_rate, weight_decay=0.0, fused=True)

    def mean_nll() -> float:
        return sum(negative_log_likelihoods(model, samples, token_budget=token_budget)) / len(samples)

    curve = [mean_nll()]
    with in_evaluation_mode(model):
        for step in range(steps):
            chosen = [samples[index] for index in seeded_batch(len(samples), batch_size, step, seed)]
            batch = collate(chosen, pad_id=pad_id).to(model.device)
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(sample_losses(model, batch).mean())
            optimizer.step()
            curve.append(mean_nll())
    optimizer.zero_grad(set_to_none=True)
    return curve
