"""Batch Spectral Shrinkage: shrinks the weakest directions of a batch's features."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from lwf_assets.engine import processes
from lwf_assets.engine.samples import IGNORED, Batch

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel


class BatchSpectralShrinkage:
    """weight times the sum of squares of the `k` smallest singular values of the batch's features.

    Chen et al., "Catastrophic Forgetting Meets Negative Transfer: Batch Spectral Shrinkage for Safe Transfer Learning"
    (NeurIPS 2019), equation 4; both defaults are theirs. The small singular values belong to what does not transfer.

    The feature of a sample is, for a language model, what its output head reads, averaged over the positions that
    predict the sample's response tokens; the batch's features are [batch, hidden]. A batch of at most `k` rows has all
    its singular values pressed down. Under gradient accumulation each batch has a spectrum of its own; a batch that
    processes share has one.

    Raises:
        ValueError: a weight that is not positive, or a `k` below 1.
    """

    def __init__(self, *, weight: float = 1e-3, k: int = 1) -> None:
        if not 0 < weight < float("inf"):
            raise ValueError(f"weight of batch spectral shrinkage must be positive and finite; got {weight}")
        if k < 1:
            raise ValueError(f"k of batch spectral shrinkage must be at least 1; got {k}")
        self.weight = weight
        self.k = k
        self._seen: Tensor | None = None

    @contextmanager
    def watching(self, model: PreTrainedModel) -> Iterator[None]:
        """Keep what the output head reads in the forward pass inside the block."""

        def keep(head: nn.Module, inputs: tuple[Any, ...]) -> None:
            self._seen = inputs[0]

        self._seen = None
        handle = model.get_output_embeddings().register_forward_pre_hook(keep)
        try:
            yield
        finally:
            handle.remove()

    def value(self, model: PreTrainedModel, batch: Batch) -> Tensor:
        """The penalty on the features of `batch`, whose forward pass was watched."""
        if self._seen is None:
            raise ValueError("batch spectral shrinkage saw no forward pass through the model's output head")
        states, self._seen = self._seen, None
        with torch.autocast(model.device.type, enabled=False):
            features = response_features(states, batch)
            if (together := processes.here()).world == 1:
                return self.weight * smallest_squares(features, self.k)
            # The spectrum is of the whole batch, and each process knows the gradient of its own rows.
            of_all = together.all(features.detach().cpu())
            rows = [features if rank == together.rank else part.to(features) for rank, part in enumerate(of_all)]
            penalty = self.weight * smallest_squares(torch.cat(rows), self.k)
            return penalty.detach() + together.world * (penalty - penalty.detach())


def response_features(states: Tensor, batch: Batch) -> Tensor:
    """Mean of `states` over the positions that predict a row's response tokens, [rows with some, hidden], fp32.

    Args:
        states: [batch, positions, hidden], at all positions of the batch, or only at those in which some row has loss.
        batch: the rows that the states are of.
    """
    counted = batch.labels[:, 1:] != IGNORED  # the state at t predicts the token at t + 1
    positions = counted.any(dim=0).nonzero().squeeze(1)
    if states.shape[1] == batch.labels.shape[1]:
        states = states[:, positions]
    counted = counted[:, positions].unsqueeze(2)
    has_loss = counted.any(dim=1).squeeze(1)
    states, counted = states[has_loss], counted[has_loss]  # a row without is of no sample
    # Not a product with the mask: the values at masked positions may be NaN.
    return states.float().masked_fill(~counted, 0).sum(dim=1) / counted.sum(dim=1)


def smallest_squares(features: Tensor, k: int) -> Tensor:
    """Sum of squares of the `k` smallest singular values of `features`, a scalar.

    From the singular values themselves: the eigenvalues of the Gram matrix would lose the small ones to rounding. Their
    gradient has no differences of singular values in a denominator, so values that repeat do no harm.
    """
    values: Tensor = torch.linalg.svdvals(features)  # in descending order
    return values[-k:].square().sum()
