"""Which part of a sum makes it vary, and rank correlation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np


def shares_of_variance(parts: Mapping[str, Sequence[float]]) -> dict[str, float | None]:
    """Each part's share of the variance of their sum: cov(part, sum) / var(sum). The shares add up to 1.

    None where the sum does not vary, or is not finite.
    """
    total = np.sum([np.asarray(part, dtype=float) for part in parts.values()], axis=0)
    variance = float(np.var(total))
    if variance == 0 or not math.isfinite(variance):
        return dict.fromkeys(parts)
    return {
        name: float(np.mean((np.asarray(part) - np.mean(part)) * (total - total.mean()))) / variance
        for name, part in parts.items()
    }


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Spearman's rho; None where one side does not vary or is not finite."""
    from scipy.stats import spearmanr

    if len(set(first)) < 2 or len(set(second)) < 2 or not np.isfinite([*first, *second]).all():
        return None
    return float(spearmanr(first, second).statistic)
