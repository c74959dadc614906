"""The three terms of the forgetting confidence of every sample of D_self.

With d = theta_base - theta_L* and g = dL(x)/dtheta at theta_base,

    FC(x) = 1/2 sum F (d - alpha g)^2 = 1/2 sum F d^2  -  alpha sum F d g  +  alpha^2 1/2 sum F g^2
                                        constant          linear             quadratic

The expanded form is computed, in fp32 products with fp64 totals: at |theta| = 0.02 the literal subtraction in low
precision loses alpha*g altogether.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import EllipsisType
from typing import TYPE_CHECKING

import numpy as np
import torch

from lwf_assets.engine import processes
from lwf_assets.engine.forgetting_confidence import forgetting_confidence
from lwf_assets.engine.gradients.per_sample import reduce_per_sample_gradients
from lwf_assets.engine.loss import LossReduction
from lwf_assets.engine.samples import TOKEN_BUDGET, Sample
from lwf_assets.progress import SILENT, Progress

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor
    from transformers import PreTrainedModel

    from lwf_assets.engine.gradients.blocks import GradientsOfSamples


@dataclass(frozen=True)
class ConfidenceTerms:
    """FC = constant - alpha * linear + alpha^2 * quadratic, per sample.

    `gradient_norm` (L2, all parameters) and `losses` (nats, reduced as asked) come from the same backward pass.
    """

    constant: float
    linear: NDArray[np.float64]
    quadratic: NDArray[np.float64]
    gradient_norm: NDArray[np.float64]
    losses: NDArray[np.float64]

    def forgetting_confidence(self, alpha: float) -> NDArray[np.float64]:
        """FC of every sample for one alpha."""
        return forgetting_confidence(self.constant, self.linear, self.quadratic, alpha)


class _Terms:
    """Sums the linear and the quadratic term of each sample."""

    def __init__(self, count: int, fisher: Mapping[str, Tensor], delta: Mapping[str, Tensor]) -> None:
        self.fisher = fisher
        self.delta = delta
        device = next(iter(fisher.values())).device
        self.linear, self.quadratic, self.squared_norm = torch.zeros(3, count, dtype=torch.float64, device=device)

    def add(self, name: str, rows: slice | EllipsisType, gradients: Iterable[GradientsOfSamples]) -> None:
        fisher = self.fisher[name][rows].flatten()
        pull = fisher * self.delta[name][rows].flatten()
        for samples, some in gradients:
            values = some.reshape(len(samples), -1).float()
            self.linear.index_add_(0, samples, _inner_products(values, pull))
            squares = values.square_()
            self.squared_norm.index_add_(0, samples, squares.sum(dim=1).double())
            self.quadratic.index_add_(0, samples, _inner_products(squares, fisher), alpha=0.5)

    def add_rows(self, name: str, rows: Tensor, gradients: GradientsOfSamples) -> None:
        samples, values = gradients
        fisher, delta = self.fisher[name][rows], self.delta[name][rows]
        for total, products in (
            (self.linear, values * fisher * delta),
            (self.squared_norm, values.square()),
            (self.quadratic, 0.5 * values.square() * fisher),
        ):
            total.index_add_(0, samples, products.flatten(1).sum(dim=1, dtype=torch.float64))


def _inner_products(values: Tensor, weights: Tensor) -> Tensor:
    """Of each row of [n, elements] with [elements]; fp64, of sums in fp32 within the block."""
    if values.device.type == "cpu":
        # Faster than a product of matrix and vector, for which a few rows are too few.
        return torch.stack([torch.dot(row, weights) for row in values]).double()
    return torch.mv(values, weights).double()


BLOCK = 2**18
"""Elements of which a weighted copy may exist."""


def squared_norm(values: Tensor, weights: Tensor | None = None) -> float:
    """Sum of weights * values^2: block by block in fp32, over the blocks in fp64, with no copy of the whole."""
    blocks = torch.split(values.reshape(-1), BLOCK)
    weighted = blocks if weights is None else map(torch.mul, blocks, torch.split(weights.reshape(-1), BLOCK))
    sums = [torch.dot(block, other) for block, other in zip(blocks, weighted, strict=True)]
    return torch.stack(sums).sum(dtype=torch.float64).item()


def confidence_terms(
    model: PreTrainedModel,
    samples: Sequence[Sample],
    *,
    fisher: Mapping[str, Tensor],
    delta: Mapping[str, Tensor],
    reduction: LossReduction = "mean",
    batch_size: int | None = None,
    token_budget: int = TOKEN_BUDGET,
    progress: Progress = SILENT,
) -> ConfidenceTerms:
    """The terms of FC for each of `samples` at the base model.

    Processes that have joined take a share of the samples each, and all get the whole.

    Args:
        model: the base model; left as found.
        samples: D_self, in any order; results keep it.
        fisher: diagonal Fisher of D_L by parameter name, as `fisher_diagonal` gives it.
        delta: theta_base - theta_L*, by the same names.
        reduction: a sample's loss is the mean or the sum over its response tokens.
        batch_size: samples in memory at once, at most.
        token_budget: tokens in memory at once, padding included. Neither changes the result.
        progress: notified of every sample.

    Raises:
        ValueError: `fisher` or `delta` does not name exactly the model's parameters, or differs in a shape.
    """
    shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
    for label, tensors in (("fisher", fisher), ("delta", delta)):
        if {name: tensor.shape for name, tensor in tensors.items()} != shapes:
            odd = sorted(set(tensors) ^ set(shapes)) or [n for n in shapes if tensors[n].shape != shapes[n]]
            raise ValueError(f"{label} does not fit the model: see {', '.join(odd[:3])}")
    weights = {name: value.to(model.device, torch.float32) for name, value in fisher.items()}
    deltas = {name: value.to(model.device, torch.float32) for name, value in delta.items()}
    together = processes.here()
    mine = together.share(samples)
    terms = _Terms(len(mine), weights, deltas)
    losses = reduce_per_sample_gradients(
        model,
        [samples[index] for index in mine],
        terms,
        loss_reduction=reduction,
        batch_size=batch_size,
        token_budget=token_budget,
        progress=together.shown(progress, len(samples)),
    )
    own = zip(
        *(each.tolist() for each in (terms.linear, terms.quadratic, terms.squared_norm.sqrt())), losses, strict=True
    )
    linear, quadratic, gradient_norm, losses_of_all = np.array(together.gather(mine, list(own))).reshape(-1, 4).T
    return ConfidenceTerms(
        constant=0.5 * sum(squared_norm(value, weights[name]) for name, value in deltas.items()),
        linear=linear,
        quadratic=quadratic,
        gradient_norm=gradient_norm,
        losses=losses_of_all,
    )
