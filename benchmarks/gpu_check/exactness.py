"""The kernels on the card against a loop over single samples in float64 on the CPU."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from benchmarks.gpu_check.check import Check, Figure, Place
from benchmarks.models import llama
from benchmarks.problem import Problem, mixed_lengths, new_problem, random_samples
from benchmarks.reference import exact_fisher, exact_terms, relative_error
from lwf_assets.engine.confidence import confidence_terms
from lwf_assets.engine.fisher import fisher_diagonal
from lwf_assets.engine.gradients import fused


def exactness(place: Place) -> list[Figure]:
    """Largest relative error of any tensor: fp32, and bf16 weights by the kernels and by the block loop."""
    hidden, count = (16, 3) if place.tiny else (320, 12)
    model = llama(hidden=hidden, intermediate=2 * hidden + 4, layers=2, heads=4, key_value_heads=2, vocabulary=251)
    problem = new_problem(model, random_samples(mixed_lengths(count, 5, 40), 251))
    found = []
    for dtype, label in ((torch.float32, "fp32"), (torch.bfloat16, "bf16")):
        rounded = Problem(copy.deepcopy(model).to(dtype), problem.samples, problem.fisher, problem.delta)
        exact = {**exact_fisher(rounded), **exact_terms(rounded)}
        by_kernels, by_loop = _error(rounded, exact, place, True), _error(rounded, exact, place, False)
        # What the forward pass rounds to bf16 is no worse in the loop, which rounds each gradient too.
        bar = 1e-5 if dtype == torch.float32 else 1.2 * by_loop
        found.append(Figure(f"error, {label}", by_kernels, bar, "", notes={"by the loop": by_loop}))
    return found


def _error(problem: Problem, exact: dict[str, Tensor], place: Place, kernels: bool) -> float:
    model = copy.deepcopy(problem.model).to(place.device)
    with fused.kernels_used(kernels):
        found = fisher_diagonal(model, problem.samples)
        terms = confidence_terms(model, problem.samples, fisher=problem.fisher, delta=problem.delta)
    by_sample = {name: torch.from_numpy(getattr(terms, name)) for name in ("linear", "quadratic", "gradient_norm")}
    return relative_error({**{name: value.cpu() for name, value in found.items()}, **by_sample}, exact)


EXACTNESS = Check("exactness", "Exactness", exactness, seconds=20)
