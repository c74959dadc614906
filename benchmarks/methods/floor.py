"""The floor: one plain forward and backward pass, which no way to get at the gradients can do without."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.methods.method import Method, Result
from benchmarks.problem import Problem
from lwf_assets.engine.loss import sample_losses


def _prepare(problem: Problem) -> Callable[[], Result]:
    model = problem.model

    def run() -> Result:
        model.zero_grad(set_to_none=True)
        for batch in problem.batches():
            sample_losses(model, batch).sum().backward()  # type: ignore[no-untyped-call]
        model.zero_grad(set_to_none=True)
        return {}

    return run


FLOOR = Method("floor", "plain batched forward and backward", "gradient", "main", _prepare, remark="the floor")
