"""One sample at a time: what is written first, and what is always right."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from benchmarks.methods.method import Method, Result
from benchmarks.problem import Problem
from lwf_assets.engine.loss import sample_losses
from lwf_assets.engine.samples import collate


def _gradients(problem: Problem) -> Iterator[dict[str, Tensor]]:
    """Each sample's gradient by parameter name. Logits only where there is loss, no padding, and gradients that the
    backward pass writes once and nobody zeroes."""
    parameters = dict(problem.model.named_parameters())
    for sample in problem.samples:
        problem.model.zero_grad(set_to_none=True)
        sample_losses(problem.model, collate([sample])).sum().backward()  # type: ignore[no-untyped-call]
        yield {name: parameter.grad for name, parameter in parameters.items() if parameter.grad is not None}
    problem.model.zero_grad(set_to_none=True)


def _prepare_fisher(problem: Problem) -> Callable[[], Result]:
    def run() -> Result:
        sums = {
            name: torch.zeros_like(parameter, requires_grad=False)
            for name, parameter in problem.model.named_parameters()
        }
        for gradient in _gradients(problem):
            for name, value in gradient.items():
                sums[name].addcmul_(value, value)
        return {name: total.div_(len(problem.samples)) for name, total in sums.items()}

    return run


def _prepare_terms(problem: Problem) -> Callable[[], Result]:
    def run() -> Result:
        pull = {name: (value * problem.delta[name]).flatten() for name, value in problem.fisher.items()}
        sums = torch.zeros(3, len(problem.samples), dtype=torch.float64)
        for index, gradient in enumerate(_gradients(problem)):
            for name, value in gradient.items():
                flat = value.flatten()
                sums[0, index] += torch.dot(flat, pull[name])
                squares = flat.square_()
                sums[1, index] += torch.dot(squares, problem.fisher[name].flatten())
                sums[2, index] += squares.sum()
        return {"linear": sums[0], "quadratic": 0.5 * sums[1], "gradient_norm": sums[2].sqrt()}

    return run


FISHER = Method("loop_fisher", "loop over the samples: Fisher diagonal", "fisher", "loop", _prepare_fisher)
TERMS = Method("loop_terms", "loop over the samples: confidence terms", "terms", "loop", _prepare_terms)
