"""Per-sample gradients of a mixture of experts beside the least that they could cost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.measure import measure
from benchmarks.methods import floor, loop, ours
from benchmarks.models import qwen3_moe
from benchmarks.plan import Plan
from benchmarks.problem import new_problem, random_samples

METHODS = (floor.FLOOR, ours.FISHER, ours.TERMS, loop.FISHER, loop.TERMS)


def experts(plan: Plan, say: Callable[[str], None]) -> dict[str, Any]:
    """Seconds of every method in every round; the floor is the first row. The first pass of each is not counted."""
    size = plan.experts
    model = qwen3_moe(
        hidden=size.hidden,
        width=size.width,
        experts=size.experts,
        chosen=size.chosen,
        layers=size.layers,
        vocabulary=size.vocabulary,
    )
    problem = new_problem(model, random_samples(size.lengths, size.vocabulary))
    seconds: dict[str, list[float]] = {method.key: [] for method in METHODS}
    for number in range(size.rounds + 1):
        for method in METHODS:
            took = measure(method.prepare(problem))[1].seconds
            if number:
                seconds[method.key].append(took)
        if number:
            say(f"experts, round {number}: " + ", ".join(f"{key} {took[-1]:.2f} s" for key, took in seconds.items()))
    parameters = dict(model.named_parameters())
    of_experts = sum(parameter.numel() for name, parameter in parameters.items() if ".experts." in name)
    total = sum(parameter.numel() for parameter in parameters.values())
    return {
        "parameters": total,
        "share": of_experts / total,
        "experts": size.experts,
        "chosen": size.chosen,
        "samples": len(size.lengths),
        "shortest": min(size.lengths),
        "longest": max(size.lengths),
        "rows": [{"label": method.label, "seconds": seconds[method.key]} for method in METHODS],
    }
