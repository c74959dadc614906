"""The statistics of the reports: intervals, rank correlations, shares of variance."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from lwf_assets.report import Interval

RESAMPLES = 2000


def bootstrap_interval(values: Sequence[float], *, seed: int = 0) -> Interval:
    """Mean of per-item values with a 95 % bootstrap interval over the items (percentile; BCa is undefined for equal
    values).

    For a paired comparison give the differences item by item. NaN values are left out; with none left all three are
    NaN.
    """
    numbers = np.asarray([value for value in values if not math.isnan(value)], dtype=float)
    if numbers.size == 0:
        return Interval(math.nan, math.nan, math.nan)
    draws = np.random.default_rng(seed).integers(numbers.size, size=(RESAMPLES, numbers.size))
    low, high = np.percentile(numbers[draws].mean(axis=1), [2.5, 97.5])
    return Interval(float(numbers.mean()), float(low), float(high))


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Spearman's rho; None where one side does not vary or is not finite."""
    from scipy.stats import spearmanr

    if len(set(first)) < 2 or len(set(second)) < 2 or not np.isfinite([*first, *second]).all():
        return None
    return float(spearmanr(first, second).statistic)


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
