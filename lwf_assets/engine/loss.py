"""The loss of a sample: negative log-likelihood of its response tokens, in nats."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from lwf_assets.engine import processes
from lwf_assets.engine.model_state import left_as_found
from lwf_assets.engine.row_separation import RowSeparation, check_row_separation, row_separation
from lwf_assets.engine.samples import IGNORED, Batch, Sample, batches_by_length, collate
from lwf_assets.engine.token_budget import TokenBudget, out_of_memory_named, tokens_that_fit
from lwf_assets.progress import SILENT, Progress

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LossReduction = Literal["mean", "sum"]


def sample_losses(model: PreTrainedModel, batch: Batch, *, reduction: LossReduction = "mean") -> Tensor:
    """Loss of each row, [batch], fp32: mean or sum over its response tokens. Differentiable."""
    losses, counted = token_losses(model, batch)
    totals = losses.sum(dim=1)
    return totals if reduction == "sum" else totals / counted.sum(dim=1)


def token_losses(model: PreTrainedModel, batch: Batch) -> tuple[Tensor, Tensor]:
    """Loss of each token, [batch, positions], fp32, and which of them count; 0 where one does not.

    `positions` are those in which some row has loss.
    """
    logits, tokens, counted = response_logits(model, batch)
    losses = torch.zeros(counted.shape, dtype=torch.float32, device=tokens.device)
    losses[counted] = functional.cross_entropy(logits, tokens, reduction="none")
    return losses, counted


@out_of_memory_named()
@torch.no_grad()
def negative_log_likelihoods(
    model: PreTrainedModel,
    samples: Sequence[Sample],
    *,
    token_budget: TokenBudget = "auto",
    progress: Progress = SILENT,
) -> list[float]:
    """Mean NLL per response token of each sample, in nats, in the order of `samples`."""
    check_row_separation(model, samples)
    together = processes.of_model(model)
    mine = together.share(samples)
    losses, shown = [0.0] * len(mine), together.shown(progress, len(samples))
    with left_as_found(model):
        budget = tokens_that_fit(model, token_budget, differentiated=False)
        for places in batches_by_length([samples[index] for index in mine], budget):
            batch = collate([samples[mine[place]] for place in places]).to(model.device)
            for place, loss in zip(places, sample_losses(model, batch).tolist(), strict=True):
                losses[place] = loss
            shown.advance(len(places))
    return together.gather(mine, losses)


def response_logits(model: PreTrainedModel, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Logits that predict the response tokens, fp32, [tokens, vocabulary]; the tokens, [tokens]; where they stand,
    [batch, positions], true at each.

    Tokens come row by row, in the order of the text. `positions` are those in which some row has a response token:
    logits, the widest tensor of all, are formed there alone.
    """
    labels = batch.labels[:, 1:]  # the logits at t predict the token at t + 1
    counted = labels != IGNORED
    positions = counted.any(dim=0).nonzero().squeeze(1)
    labels, counted = labels[:, positions], counted[:, positions]
    if not _may_go_together(model, batch):
        return _logits_of_rows(model, batch), labels[counted], counted
    inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask, "use_cache": False}
    own = model.module if isinstance(model, DistributedDataParallel) else model
    # A PEFT model passes on whatever it is given to the model that it wraps.
    own = own.get_base_model() if hasattr(own, "get_base_model") else own
    if "logits_to_keep" in inspect.signature(own.forward).parameters:
        logits = model(**inputs, logits_to_keep=positions).logits
    else:
        logits = model(**inputs).logits[:, positions]
    return logits[counted].float(), labels[counted], counted


def _may_go_together(model: PreTrainedModel, batch: Batch) -> bool:
    """Whether the rows of the batch give what they give alone, as far as that was checked."""
    separation = row_separation(model)
    if separation is RowSeparation.ANY or len(batch.input_ids) == 1:
        return True
    return separation is RowSeparation.EQUAL and bool(batch.attention_mask.all())


def _logits_of_rows(model: PreTrainedModel, batch: Batch) -> Tensor:
    """The logits of `response_logits`, by one forward pass for each row, without its padding."""
    logits = []
    for row, length in enumerate(batch.attention_mask.sum(dim=1).tolist()):
        one = Batch(*(part[row : row + 1, :length] for part in (batch.input_ids, batch.attention_mask, batch.labels)))
        logits.append(response_logits(model, one)[0])
    return torch.cat(logits)
