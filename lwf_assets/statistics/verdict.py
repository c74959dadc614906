"""Whether an arm helps, in a word; and Holm's adjustment of p-values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from lwf_assets.errors import LwfError
from lwf_assets.statistics.effect import Effect

Verdict = Literal["helps", "hurts", "no detectable effect", "too few seeds to say"]


def verdict(
    effect: Effect, *, higher_is_better: bool, adjusted_p: float | None = None, least_seeds: int = 3
) -> Verdict:
    """What `effect` says of the arm. The sentences around it are in `reports/wording.py`.

    Args:
        effect: of `paired_effect`, `seed_effect` or `bootstrap_statistic`.
        higher_is_better: true for accuracy, false for NLL and for steps.
        adjusted_p: the effect's p-value after `holm`; both it and the interval must then exclude zero.
        least_seeds: with fewer, nothing is said.

    Raises:
        LwfError: where `adjusted_p` is not a probability.
    """
    if effect.seeds < least_seeds:
        return "too few seeds to say"
    if not effect.standard_error > 0:  # the same difference everywhere: its spread is not known
        return "no detectable effect" if effect.mean == 0 else "too few seeds to say"
    if adjusted_p is not None and not 0 <= adjusted_p <= 1:
        raise LwfError(f"adjusted_p is {adjusted_p}; it must be between 0 and 1")
    level = 1 - effect.confidence
    decisive = [effect.p_value] if adjusted_p is None else [effect.p_value, adjusted_p]
    if not all(p_value < level for p_value in decisive):
        return "no detectable effect"
    return "helps" if (effect.mean > 0) == higher_is_better else "hurts"


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
