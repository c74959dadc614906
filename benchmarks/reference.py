"""The truth that every method is held against: plain backward passes, one sample at a time, in float64."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from benchmarks.problem import Problem

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from lwf_assets.engine.samples import Sample


def exact_fisher(problem: Problem) -> dict[str, Tensor]:
    """The diagonal of the empirical Fisher information, by parameter name, in float64."""
    sums: dict[str, Tensor] = {}
    for gradient in _gradients(problem):
        for name, value in gradient.items():
            sums[name] = sums.get(name, torch.zeros_like(value)) + value**2
    return {name: total / len(problem.samples) for name, total in sums.items()}


def exact_terms(problem: Problem) -> dict[str, Tensor]:
    """Linear term, quadratic term and gradient norm of each sample, [samples] each, in float64."""
    linear, quadratic, squares = [], [], []
    for gradient in _gradients(problem):
        fisher = {name: problem.fisher[name].double() for name in gradient}
        delta = {name: problem.delta[name].double() for name in gradient}
        linear.append(sum((fisher[n] * delta[n] * g).sum() for n, g in gradient.items()))
        quadratic.append(sum(0.5 * (fisher[n] * g**2).sum() for n, g in gradient.items()))
        squares.append(sum((g**2).sum() for g in gradient.values()))
    return {
        "linear": torch.tensor(linear, dtype=torch.float64),
        "quadratic": torch.tensor(quadratic, dtype=torch.float64),
        "gradient_norm": torch.tensor(squares, dtype=torch.float64).sqrt(),
    }


def relative_error(actual: Mapping[str, Tensor], exact: Mapping[str, Tensor]) -> float:
    """The largest relative error, in the L2 norm, of any tensor that `actual` has.

    Some gradients are zero but for rounding (attention does not feel the bias of its keys): below 1e-8 of the largest
    tensor's norm, an error is no error.
    """
    floor = 1e-8 * max(value.norm().item() for value in exact.values())
    worst = 0.0
    for name, value in actual.items():
        error = (value.double() - exact[name]).norm().item()
        worst = max(worst, error / max(exact[name].norm().item(), floor))
    return worst


def _gradients(problem: Problem) -> Iterator[dict[str, Tensor]]:
    model = copy.deepcopy(problem.model).double().eval().requires_grad_(True)
    model.set_experts_implementation("eager")  # a loop over the experts: the grouped product takes no doubles
    for sample in problem.samples:
        model.zero_grad(set_to_none=True)
        _loss(model, sample).backward()  # type: ignore[no-untyped-call]
        yield {
            name: torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.clone()
            for name, parameter in model.named_parameters()
        }


def _loss(model: PreTrainedModel, sample: Sample) -> Tensor:
    """Mean negative log-likelihood of the response tokens, picked out one at a time from one unpadded row."""
    row = sample.prompt_ids + sample.response_ids
    logits = model(input_ids=torch.tensor([row]), use_cache=False).logits[0]
    losses = [
        torch.logsumexp(logits[position - 1], dim=0) - logits[position - 1, row[position]]
        for position in range(len(sample.prompt_ids), len(row))
    ]
    return torch.stack(losses).mean()
