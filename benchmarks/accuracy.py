"""How exact this project is, on tiny random models of many architectures."""

from __future__ import annotations

from typing import Any

from benchmarks.methods import ours
from benchmarks.models import ARCHITECTURES, TINY_VOCABULARY, tiny_model
from benchmarks.problem import mixed_lengths, new_problem, random_samples
from benchmarks.reference import exact_fisher, exact_terms, relative_error


def accuracy() -> dict[str, Any]:
    """The largest relative error of any tensor against the loop in float64, for each architecture."""
    rows = []
    for architecture in ARCHITECTURES:
        samples = random_samples(mixed_lengths(8, 2, 40), TINY_VOCABULARY)
        problem = new_problem(tiny_model(architecture), samples)
        rows.append(
            {
                "architecture": architecture,
                "fisher": relative_error(ours.FISHER.prepare(problem)(), exact_fisher(problem)),
                "terms": relative_error(ours.TERMS.prepare(problem)(), exact_terms(problem)),
            }
        )
    return {"rows": rows}
