"""Opacus: per-sample gradients from hooks on the layers."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch

from benchmarks.methods.method import Method, Result
from benchmarks.problem import Problem
from lwf_assets.engine.loss import sample_losses


def _prepare(problem: Problem) -> Callable[[], Result]:
    from opacus import GradSampleModule

    # Its hooks see nothing in evaluation mode; the models here have no dropout, so the mode changes no figure. Not
    # strict: the buffers that it objects to are the rotary embedding's constants.
    model = GradSampleModule(copy.deepcopy(problem.model).train(), strict=False, loss_reduction="sum")
    parameters = {name.removeprefix("_module."): parameter for name, parameter in model.named_parameters()}

    def run() -> Result:
        sums = {name: torch.zeros_like(parameter, requires_grad=False) for name, parameter in parameters.items()}
        for batch in problem.batches():
            sample_losses(model, batch).sum().backward()  # type: ignore[no-untyped-call]
            for name, parameter in parameters.items():
                sums[name] += parameter.grad_sample.square_().sum(dim=0)
                parameter.grad_sample = None
                parameter.grad = None
        return {name: total.div_(len(problem.samples)) for name, total in sums.items()}

    return run


FISHER = Method(
    "opacus",
    "Opacus: `GradSampleModule`",
    "fisher",
    "peer",
    _prepare,
    package="opacus",
    remark="`strict=False`; its functorch rule for the norms",
    chunks=(2, 4, 8),
)
