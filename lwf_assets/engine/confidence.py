"""The three terms of the forgetting confidence of every sample of D_self.

With d = theta_base - theta_L* and g = dL(x)/dtheta at theta_base,

    FC(x) = 1/2 sum F (d - alpha g)^2 = 1/2 sum F d^2  -  alpha sum F d g  +  alpha^2 1/2 sum F g^2
                                        constant          linear             quadratic

The expanded form is computed, in fp32 products with fp64 totals: at |theta| = 0.02 the literal subtraction in low
precision loses alpha*g altogether. F and d themselves may be held in bfloat16: each element is then off by at most
1/512, at random, and the sums by far less.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from lwf_assets.engine import processes
from lwf_assets.engine.forgetting_confidence import forgetting_confidence
from lwf_assets.engine.gradients import fused
from lwf_assets.engine.gradients.per_sample import reduce_per_sample_gradients
from lwf_assets.engine.loss import LossReduction
from lwf_assets.engine.samples import Sample
from lwf_assets.engine.token_budget import TokenBudget
from lwf_assets.progress import SILENT, Progress

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor
    from transformers import PreTrainedModel

    from lwf_assets.engine.gradients.blocks import GradientsOfSamples, RowsOfParameter
    from lwf_assets.engine.low_rank import LowRank


@dataclass(frozen=True)
class ConfidenceTerms:
    """FC = constant - alpha * linear + alpha^2 * quadratic, per sample.

    `gradient_norm` (L2, over the parameters that FC is over) and `losses` (nats, reduced as asked) come from the same
    backward pass.
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
    """Sums the linear and the quadratic term of each sample: in fp32 within a block, in fp64 over the blocks."""

    def __init__(self, count: int, fisher: Mapping[str, Tensor], delta: Mapping[str, Tensor | LowRank]) -> None:
        self.fisher = fisher
        self.delta = delta
        device = next(iter(fisher.values())).device
        self.linear, self.quadratic, self.squared_norm = torch.zeros(3, count, dtype=torch.float64, device=device)

    def add(self, name: str, rows: RowsOfParameter, gradients: Iterable[GradientsOfSamples]) -> None:
        fisher = self.fisher[name][rows].flatten().float()
        pull = fisher * self.delta[name][rows].flatten()
        sums: list[tuple[Tensor, ...]] = []
        for samples, some in gradients:
            values = some.reshape(len(samples), -1).float()
            linear = _inner_products(values, pull)
            squares = values.square_()
            squared_norm = squares.sum(dim=1)
            sums.append((samples, linear, squared_norm, _inner_products(squares, fisher, out=squares)))
        if sums:  # added up at the end: blocks may be so small that each call counts
            chosen, *totals = map(torch.cat, zip(*sums, strict=True))
            linear, squared_norm, quadratic = (total.double() for total in totals)
            self.linear.index_add_(0, chosen, linear)
            self.squared_norm.index_add_(0, chosen, squared_norm)
            self.quadratic.index_add_(0, chosen, quadratic, alpha=0.5)

    def add_products(self, name: str, products: fused.Products) -> None:
        linear, quadratic, squared_norm = fused.weighted_sums(products, self.fisher[name], self.delta[name][...])
        self.linear.index_add_(0, products.samples, linear)
        self.quadratic.index_add_(0, products.samples, quadratic, alpha=0.5)
        self.squared_norm.index_add_(0, products.samples, squared_norm)

    def add_rows(self, name: str, rows: Tensor, gradients: GradientsOfSamples) -> None:
        samples, values = gradients[0], gradients[1].float()
        fisher, delta = self.fisher[name][rows].float(), self.delta[name][rows].float()
        for total, products in (
            (self.linear, values * fisher * delta),
            (self.squared_norm, values.square()),
            (self.quadratic, 0.5 * values.square() * fisher),
        ):
            total.index_add_(0, samples, products.flatten(1).sum(dim=1, dtype=torch.float64))


def _held_as(values: Tensor | LowRank) -> torch.dtype:
    """16 bits stay, everything else is held in fp32."""
    return values.dtype if values.itemsize == 2 else torch.float32


def _inner_products(values: Tensor, weights: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Of each row of [n, elements] with [elements]; `out` may be overwritten."""
    if values.device.type != "cpu":
        return torch.mv(values, weights)
    # torch.mv uses one core, and its sums are ten times less exact.
    if len(weights) < LONG_ROW:
        return torch.mul(values, weights, out=out).sum(dim=1)
    return torch.stack([torch.dot(row, weights) for row in values])


LONG_ROW = 2**17
"""Elements from which on a dot product of its own is faster than one product for several rows, on a CPU."""

BLOCK = 2**18
"""Elements of which a weighted copy may exist."""


def squared_norm(values: Tensor, weights: Tensor | None = None) -> float:
    """Sum of weights * values^2: block by block in fp32, over the blocks in fp64, with no copy of the whole."""
    blocks = torch.split(values.reshape(-1), BLOCK)
    weighing = blocks if weights is None else torch.split(weights.reshape(-1), BLOCK)
    sums = []
    for block, weight in zip(blocks, weighing, strict=True):
        wide = block.float()
        sums.append(torch.dot(wide, wide if weights is None else wide * weight))
    return torch.stack(sums).sum(dtype=torch.float64).item()


def confidence_terms(
    model: PreTrainedModel,
    samples: Sequence[Sample],
    *,
    fisher: Mapping[str, Tensor],
    delta: Mapping[str, Tensor | LowRank],
    only: Collection[str] | None = None,
    reduction: LossReduction = "mean",
    batch_size: int | None = None,
    token_budget: TokenBudget = "auto",
    progress: Progress = SILENT,
) -> ConfidenceTerms:
    """The terms of FC for each of `samples` at the base model.

    Processes that have joined take a share of the samples each, and all get the whole.

    Args:
        model: the base model; left as found.
        samples: D_self, in any order; results keep it.
        fisher: diagonal Fisher of D_L by parameter name, as `fisher_diagonal` gives it. In 16 bits it is used as it
            is, tile by tile, with no wider copy of the whole; so is `delta`.
        delta: theta_base - theta_L*, by the same names; a matrix that is given as factors is formed part by part.
        only: names of the parameters that FC is over; None for all. They need not be trainable.
        reduction: a sample's loss is the mean or the sum over its response tokens.
        batch_size: samples in memory at once, at most.
        token_budget: tokens in memory at once, padding included. Neither changes the result.
        progress: notified of every sample.

    Raises:
        ValueError: `fisher` or `delta` does not name exactly these parameters of the model, or differs in a shape.
    """
    shapes = {name: p.shape for name, p in model.named_parameters() if only is None or name in only}
    for label, tensors in (("fisher", fisher), ("delta", delta)):
        if {name: tensor.shape for name, tensor in tensors.items()} != shapes:
            odd = sorted(set(tensors) ^ set(shapes)) or [n for n in shapes if tensors[n].shape != shapes[n]]
            raise ValueError(f"{label} does not fit the model: see {', '.join(odd[:3])}")
    weights = {name: value.to(model.device, _held_as(value)) for name, value in fisher.items()}
    deltas = {name: value.to(model.device, _held_as(value)) for name, value in delta.items()}
    together = processes.here()
    mine = together.share(samples)
    terms = _Terms(len(mine), weights, deltas)
    losses = reduce_per_sample_gradients(
        model,
        [samples[index] for index in mine],
        terms,
        only=only,
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
        constant=0.5 * sum(squared_norm(value[...], weights[name]) for name, value in deltas.items()),
        linear=linear,
        quadratic=quadratic,
        gradient_norm=gradient_norm,
        losses=losses_of_all,
    )
