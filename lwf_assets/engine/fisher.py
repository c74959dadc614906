"""The diagonal of the empirical Fisher information.

    F_i = 1/n * sum over samples x of (dL(x)/dtheta_i)^2

the mean of squared *per-sample* gradients, the precision of the Laplace posterior around theta_L* (LWF, section on
forgetting confidence). Squaring the gradient of a batch mean instead is about the batch size too small, and ranks
wrongly.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from types import EllipsisType
from typing import TYPE_CHECKING

import torch

from lwf_assets.engine import processes
from lwf_assets.engine.gradients.per_sample import reduce_per_sample_gradients
from lwf_assets.engine.loss import LossReduction
from lwf_assets.engine.samples import TOKEN_BUDGET, Sample
from lwf_assets.progress import SILENT, Progress

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from lwf_assets.engine.gradients.blocks import GradientsOfSamples


class SquaredGradients:
    """The mean over `count` samples of the squared gradient, in fp32 whatever the type of the weights."""

    def __init__(self, model: PreTrainedModel, count: int) -> None:
        self.share = 1 / count
        self.means = {name: torch.zeros_like(p, dtype=torch.float32) for name, p in model.named_parameters()}

    def add(self, name: str, rows: slice | EllipsisType, gradients: Iterable[GradientsOfSamples]) -> None:
        """Square and add."""
        mean = self.means[name][rows]
        for _, some in gradients:
            for gradient in some.float():
                mean.addcmul_(gradient, gradient, value=self.share)

    def add_rows(self, name: str, rows: Tensor, gradients: GradientsOfSamples) -> None:
        """Square and add, row by row."""
        squares = gradients[1].float().square()
        self.means[name].index_add_(0, rows.flatten(), squares.flatten(0, 1), alpha=self.share)


def fisher_diagonal(
    model: PreTrainedModel,
    samples: Sequence[Sample],
    *,
    reduction: LossReduction = "mean",
    batch_size: int | None = None,
    token_budget: int = TOKEN_BUDGET,
    progress: Progress = SILENT,
) -> dict[str, Tensor]:
    """Mean over `samples` of the squared per-sample gradient, by parameter name.

    Processes that have joined take a share of the samples each, and all get the whole.

    Args:
        model: any transformers causal language model; left as found.
        samples: at least one.
        reduction: a sample's loss is the mean or the sum over its response tokens.
        batch_size: samples in memory at once, at most.
        token_budget: tokens in memory at once, padding included. Neither changes the result.
        progress: notified of every sample.

    Returns:
        One fp32 tensor per parameter, in its shape, on its device; tied parameters once, under their first name.

    Raises:
        ValueError: no samples.
    """
    if not samples:
        raise ValueError("the Fisher information needs at least one sample")
    mean_squares = SquaredGradients(model, len(samples))
    together = processes.here()
    reduce_per_sample_gradients(
        model,
        [samples[index] for index in together.share(samples)],
        mean_squares,
        loss_reduction=reduction,
        batch_size=batch_size,
        token_budget=token_budget,
        progress=together.shown(progress, len(samples)),
    )
    together.add_up(mean_squares.means.values())
    return mean_squares.means
