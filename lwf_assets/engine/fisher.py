"""The diagonal of the empirical Fisher information.

    F_i = 1/n * sum over samples x of (dL(x)/dtheta_i)^2

the mean of squared *per-sample* gradients, the precision of the Laplace posterior around theta_L* (LWF, section on
forgetting confidence). Squaring the gradient of a batch mean instead is about the batch size too small, and ranks
wrongly.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING

import torch

from lwf_assets.engine import processes
from lwf_assets.engine.gradients import fused
from lwf_assets.engine.gradients.per_sample import reduce_per_sample_gradients
from lwf_assets.engine.loss import LossReduction
from lwf_assets.engine.samples import Sample
from lwf_assets.engine.token_budget import TokenBudget
from lwf_assets.progress import SILENT, Progress

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from lwf_assets.engine.gradients.blocks import GradientsOfSamples, RowsOfParameter


class SquaredGradients:
    """The mean over `count` samples of the squared gradient, in fp32 whatever the type of the weights."""

    def __init__(self, model: PreTrainedModel, count: int, only: Collection[str] | None = None) -> None:
        self.share = 1 / count
        self.means = {
            name: torch.zeros_like(p, dtype=torch.float32)
            for name, p in model.named_parameters()
            if only is None or name in only
        }

    def add(self, name: str, rows: RowsOfParameter, gradients: Iterable[GradientsOfSamples]) -> None:
        """Square and add."""
        mean = self.means[name][rows]
        for _, some in gradients:
            # On a GPU a launch for each sample takes longer than the work.
            together = some.device.type != "cpu"
            for gradient in [_norms(some)] if together else some.float():
                mean.addcmul_(gradient, gradient, value=self.share)

    def add_products(self, name: str, products: fused.Products) -> None:
        """Square and add, without a gradient in memory."""
        fused.add_squares(self.means[name], products, self.share)

    def add_rows(self, name: str, rows: Tensor, gradients: GradientsOfSamples) -> None:
        """Square and add, row by row."""
        squares = gradients[1].float().square()
        self.means[name].index_add_(0, rows.flatten(), squares.flatten(0, 1), alpha=self.share)


def _norms(gradients: Tensor) -> Tensor:
    """Of each element, over the samples, in fp32: [samples, *shape] to [*shape]."""
    norms: Tensor = torch.linalg.vector_norm(gradients, dim=0, dtype=torch.float32)
    return norms


def fisher_diagonal(
    model: PreTrainedModel,
    samples: Sequence[Sample],
    *,
    only: Collection[str] | None = None,
    reduction: LossReduction = "mean",
    batch_size: int | None = None,
    token_budget: TokenBudget = "auto",
    progress: Progress = SILENT,
) -> dict[str, Tensor]:
    """Mean over `samples` of the squared per-sample gradient, by parameter name.

    Processes that have joined take a share of the samples each, and all get the whole.

    Args:
        model: any transformers causal language model; left as found.
        samples: at least one.
        only: names of the parameters that it is wanted of; None for all. They need not be trainable.
        reduction: a sample's loss is the mean or the sum over its response tokens.
        batch_size: samples in memory at once, at most.
        token_budget: tokens in memory at once, padding included. Neither changes the result.
        progress: notified of every sample.

    Returns:
        One fp32 tensor for each of these parameters, in its shape, on its device; tied ones once, under their first
        name.

    Raises:
        ValueError: no samples.
    """
    if not samples:
        raise ValueError("the Fisher information needs at least one sample")
    mean_squares = SquaredGradients(model, len(samples), only)
    together = processes.here()
    reduce_per_sample_gradients(
        model,
        [samples[index] for index in together.share(samples)],
        mean_squares,
        only=only,
        loss_reduction=reduction,
        batch_size=batch_size,
        token_budget=token_budget,
        progress=together.shown(progress, len(samples)),
    )
    together.add_up(mean_squares.means.values())
    return mean_squares.means
