"""P-values of a table, adjusted for being many."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lwf_assets.errors import LwfError


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
