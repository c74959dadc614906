"""This project's."""

from __future__ import annotations

from collections.abc import Callable

import torch

from benchmarks.methods.method import Method, Result
from benchmarks.problem import Problem
from lwf_assets.engine.confidence import confidence_terms
from lwf_assets.engine.fisher import fisher_diagonal


def _prepare_fisher(problem: Problem) -> Callable[[], Result]:
    return lambda: fisher_diagonal(problem.model, problem.samples)


def _prepare_terms(problem: Problem) -> Callable[[], Result]:
    def run() -> Result:
        terms = confidence_terms(problem.model, problem.samples, fisher=problem.fisher, delta=problem.delta)
        names = ("linear", "quadratic", "gradient_norm")
        return {name: torch.from_numpy(getattr(terms, name)) for name in names}

    return run


FISHER = Method("ours_fisher", "this project: `fisher_diagonal`", "fisher", "main", _prepare_fisher)
TERMS = Method("ours_terms", "this project: `confidence_terms`", "terms", "main", _prepare_terms)
