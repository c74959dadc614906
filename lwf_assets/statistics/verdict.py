"""Whether an arm helps: a verdict with its reason, and Holm's adjustment."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from lwf_assets.errors import LwfError
from lwf_assets.statistics.effect import Effect
from lwf_assets.statistics.power import minimum_detectable_effect

Kind = Literal["helps", "hurts", "no detectable effect", "too few seeds to say"]


@dataclass(frozen=True)
class Verdict:
    """What a comparison says."""

    kind: Kind
    reason: str
    """A sentence or two with the numbers."""


def verdict(
    effect: Effect, *, higher_is_better: bool, adjusted_p: float | None = None, least_seeds: int = 3
) -> Verdict:
    """What `effect` says of the arm.

    Args:
        effect: of `paired_effect`, `seed_effect` or `bootstrap_statistic`.
        higher_is_better: true for accuracy, false for NLL and for steps.
        adjusted_p: the effect's p-value after `holm`; both it and the interval must then exclude zero.
        least_seeds: with fewer, nothing is said.

    Raises:
        LwfError: where `adjusted_p` is not a probability.
    """
    if effect.seeds < least_seeds:
        return Verdict(
            "too few seeds to say",
            f"The difference is {effect.mean:+.3g} with {_count(effect.seeds, 'seed')}; a verdict needs {least_seeds}.",
        )
    if not effect.standard_error > 0:
        return _of_no_spread(effect)
    if adjusted_p is not None and not 0 <= adjusted_p <= 1:
        raise LwfError(f"adjusted_p is {adjusted_p}; it must be between 0 and 1")
    level = 1 - effect.confidence
    better: Kind = "helps" if (effect.mean > 0) == higher_is_better else "hurts"
    alone: Kind = better if effect.p_value < level else "no detectable effect"
    kind: Kind = alone if adjusted_p is None or adjusted_p < level else "no detectable effect"
    sentences = [f"{_numbers(effect, adjusted_p)}."]
    if kind != alone:
        sentences.append(
            f"The interval alone would have said {alone!r}; among all comparisons of the table it does not."
        )
    if kind == "no detectable effect":
        sentences.append(_could_have_seen(effect))
    return Verdict(kind, " ".join(sentences))


def _of_no_spread(effect: Effect) -> Verdict:
    where = f"{_count(effect.seeds, 'seed')}" + (f" and {effect.items} items" if effect.items else "")
    if effect.mean == 0:
        return Verdict(
            "no detectable effect",
            f"There is no difference on any of {where}; how small a one would show is not known.",
        )
    return Verdict(
        "too few seeds to say",
        f"The difference is the same, {effect.mean:+.3g}, on all of {where}, so its spread is not known.",
    )


def _numbers(effect: Effect, adjusted_p: float | None) -> str:
    size = _count(effect.seeds, "seed") + (f", {effect.items} items" if effect.items else "")
    adjusted = "" if adjusted_p is None else f", {_p(adjusted_p)} among all comparisons"
    interval = f"{100 * effect.confidence:.3g} % interval {effect.low:+.3g} to {effect.high:+.3g}"
    return f"The difference is {effect.mean:+.3g} ({interval}, {_p(effect.p_value)}{adjusted}; {size})"


def _could_have_seen(effect: Effect) -> str:
    smallest = minimum_detectable_effect(effect, confidence=effect.confidence)
    if math.isnan(smallest):
        return "How small an effect would show is not known."
    return f"A true effect of {smallest:.3g} or more would have been found four times out of five."


def _p(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.2g}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment: at 0.05 the chance of any false positive in the table is at most 5 %.

    NaN stays NaN and does not count as a test.

    Raises:
        LwfError: where a p-value is not between 0 and 1.
    """
    from statsmodels.stats.multitest import multipletests

    for row, p_value in enumerate(p_values):
        if not (math.isnan(p_value) or 0 <= p_value <= 1):
            raise LwfError(f"p-value {row} is {p_value}; it must be between 0 and 1, or NaN where there was no test")
    tested = [row for row, p_value in enumerate(p_values) if not math.isnan(p_value)]
    adjusted = [math.nan] * len(p_values)
    if tested:
        corrected = multipletests([p_values[row] for row in tested], method="holm")[1]
        for row, p_value in zip(tested, corrected, strict=True):
            adjusted[row] = float(p_value)
    return adjusted
