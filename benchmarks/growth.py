"""How the time grows with the samples, their length and the model."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.measure import measure
from benchmarks.methods import floor, loop, ours
from benchmarks.models import llama
from benchmarks.plan import Plan, Size
from benchmarks.problem import Problem, new_problem, random_samples

if TYPE_CHECKING:
    from transformers import PreTrainedModel

METHODS = (floor.FLOOR, ours.FISHER, ours.TERMS, loop.FISHER)


def growth(model: PreTrainedModel, plan: Plan, say: Callable[[str], None]) -> dict[str, Any]:
    """For each of three axes: its points, each method's median seconds at them, and the exponent of the power of x
    that fits the seconds best."""
    problem = new_problem(model, [])
    vocabulary = model.config.vocab_size

    def of_lengths(lengths: list[int]) -> Problem:
        return problem.with_samples(random_samples(lengths, vocabulary))

    axes: dict[str, Iterator[tuple[int, Problem]]] = {
        "samples": ((count, of_lengths([plan.growth_tokens] * count)) for count in plan.samples_axis),
        "tokens per sample": ((tokens, of_lengths([tokens] * plan.growth_samples)) for tokens in plan.tokens_axis),
        "parameters": (_of_size(size, plan) for size in plan.sizes),
    }
    curves = []
    for axis, points in axes.items():
        xs: list[int] = []
        seconds: dict[str, list[float]] = {method.key: [] for method in METHODS}
        for x, one in points:
            if not xs or axis == "parameters":
                floor.FLOOR.prepare(one)()  # not counted: a model's first pass
            xs.append(x)
            for key, median in _point(one, plan.growth_seconds).items():
                seconds[key].append(median)
            say(f"{axis} {x:,}: " + ", ".join(f"{key} {values[-1]:.2f} s" for key, values in seconds.items()))
        curves.append(
            {
                "axis": axis,
                "x": xs,
                "seconds": seconds,
                "exponents": {key: _exponent(xs, values) for key, values in seconds.items()},
            }
        )
    return {
        "methods": [{"key": method.key, "label": method.label} for method in METHODS],
        "samples": plan.growth_samples,
        "tokens": plan.growth_tokens,
        "curves": curves,
    }


def _of_size(size: Size, plan: Plan) -> tuple[int, Problem]:
    model = llama(**{name: value for name, value in asdict(size).items() if name != "name"})
    samples = random_samples([plan.growth_tokens] * plan.growth_samples, size.vocabulary)
    return sum(parameter.numel() for parameter in model.parameters()), new_problem(model, samples)


def _point(problem: Problem, least_seconds: float) -> dict[str, float]:
    """Each method's median seconds, over as many interleaved rounds as `least_seconds` take; at least one."""
    seconds: dict[str, list[float]] = {method.key: [] for method in METHODS}
    began = time.perf_counter()
    while True:
        for method in METHODS:
            seconds[method.key].append(measure(method.prepare(problem))[1].seconds)
        if time.perf_counter() - began >= least_seconds:
            return {key: statistics.median(values) for key, values in seconds.items()}


def _exponent(xs: list[int], seconds: list[float]) -> float:
    """The slope of log seconds over log x, by least squares."""
    return float(np.polyfit(np.log(xs), np.log(seconds), 1)[0])
